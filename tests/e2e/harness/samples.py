"""Config files that several tests share."""

# The file of the product's contract, which must run unchanged.
SAMPLE = """\
users:
  user1:
    name: "张三"
    department: "技术部"
    proxy_key: "pk_user1_xxx"
    status: "active"
    channels: ["aliyun", "openai"]
channels:
  aliyun:
    name: "阿里云百炼"
    api_key: "sk_aliyun_xxx"
    base_url: "https://dashscope.aliyuncs.com"
    status: "active"
  openai:
    name: "OpenAI"
    api_key: "sk_openai_xxx"
    base_url: "https://api.openai.com"
    status: "active"
system:
  config_reload_interval: 300
  log_level: "info"
  max_connections: 1000
"""

# Problems on lines 4, 7 and 11.
BROKEN = """\
users:
  alice:
    proxy_key: pk_alice_xxx
    chanels: [openai]
  bob:
    proxy_key: pk_bob_xxx
    channels: [nowhere]
channels:
  openai:
    api_key: sk_openai_xxx
    base_url: not a url
"""
