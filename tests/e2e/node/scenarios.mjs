// Runs one SDK's scenarios in order and prints one JSON line of what each of them saw.
//
// The same scripts serve both generations: packages are loaded from the directory the script is started in.

import { createRequire } from "node:module";
import { join } from "node:path";

export const [BASE_URL, KEY] = process.argv.slice(2);
export const load = createRequire(join(process.cwd(), "package.json"));
export const QUESTION = "Say hello to Zhang San 张三";
export const TOOL_QUESTION = "Which tool tells the weather?";

// What the SDK makes of a refused call.
export async function refusal(call) {
  try {
    await call();
  } catch (error) {
    const { name, code, status, statusCode, message } = error;
    return { error: error.constructor.name, name, code, status: status ?? statusCode, message };
  }
  throw new Error("the call was not refused");
}

// Run every scenario; one that throws is reported with its stack and the others still run.
export async function run(scenarios) {
  const results = [];
  for (const [scenario, body] of Object.entries(scenarios)) {
    await new Promise((resolve) => setTimeout(resolve, 3)); // record ids are ordered by millisecond
    try {
      results.push({ scenario, ...(await body()) });
    } catch (error) {
      results.push({ scenario, raised: String(error.stack ?? error) });
    }
  }
  console.log(JSON.stringify(results));
}
