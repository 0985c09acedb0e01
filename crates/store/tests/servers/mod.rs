//! Real databases for tests: a SQLite file, and PostgreSQL and MariaDB from Debian's packages, started on first use.
//!
//! Every test gets a database of its own in a server that all tests share, also those of other processes: whoever is
//! the first starts it, whoever is the last stops it. Servers listen on 127.0.0.1 only and write nothing to disk for
//! good. A missing package makes tests fail, not disappear; `scripts/install-test-tools` installs them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aiproxy_config::snapshot::DatabaseKind;
use aiproxy_core::Secret;
use aiproxy_store::Options;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection, Row as _, SqliteConnection};

/// Password of the servers' only user, `aiproxy`.
pub(crate) const PASSWORD: &str = "test-password";

const INSTALL: &str = "run scripts/install-test-tools to install what the tests need";

/// A database of one test. It goes away with it.
pub(crate) struct TestDatabase {
    pub(crate) kind: DatabaseKind,
    /// Path of the file, or name of the database.
    pub(crate) name: String,
    /// Port of the server.
    pub(crate) port: u16,
    directory: Option<PathBuf>,
    /// Kept running as long as this is there.
    _server: Option<Server>,
}

impl TestDatabase {
    /// A SQLite file in a directory of its own.
    pub(crate) async fn sqlite() -> Self {
        let directory = std::env::temp_dir().join(format!("aiproxy-test-{}", unique()));
        fs::create_dir_all(&directory).unwrap();
        let name = directory.join("aiproxy.db").display().to_string();
        Self { kind: DatabaseKind::Sqlite, name, port: 0, directory: Some(directory), _server: None }
    }

    /// A database in a PostgreSQL server.
    pub(crate) async fn postgres() -> Self {
        let server = Server::use_postgres();
        let name = format!("test_{}", unique());
        let (url, sql) = (server.postgres_url("postgres"), format!("CREATE DATABASE {name}"));
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Self { kind: DatabaseKind::Postgres, name, port: server.port, directory: None, _server: Some(server) }
    }

    /// A database in a MariaDB server.
    pub(crate) async fn mariadb() -> Self {
        let server = Server::use_mariadb();
        let name = format!("test_{}", unique());
        let (url, sql) = (server.mariadb_url("mysql"), format!("CREATE DATABASE {name}"));
        let mut connection = MySqlConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Self { kind: DatabaseKind::Mysql, name, port: server.port, directory: None, _server: Some(server) }
    }

    /// The URL, with the password.
    pub(crate) fn url(&self) -> String {
        let Self { name, port, .. } = self;
        match self.kind {
            DatabaseKind::Sqlite => format!("sqlite:{name}"),
            DatabaseKind::Postgres => format!("postgres://aiproxy:{PASSWORD}@127.0.0.1:{port}/{name}"),
            DatabaseKind::Mysql => format!("mysql://aiproxy:{PASSWORD}@127.0.0.1:{port}/{name}"),
        }
    }

    /// How the store connects to it.
    pub(crate) fn options(&self) -> Options {
        Options::new(self.kind, Secret::from(self.url()))
    }

    /// Runs statements.
    pub(crate) async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            DatabaseKind::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
            DatabaseKind::Postgres => {
                let mut connection = PgConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
            DatabaseKind::Mysql => {
                let mut connection = MySqlConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// The only column of a query, which is text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        macro_rules! texts {
            ($connection:ty) => {{
                let mut connection = <$connection>::connect(&self.url()).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.try_get_unchecked(0).unwrap()).collect()
            }};
        }
        match self.kind {
            DatabaseKind::Sqlite => texts!(SqliteConnection),
            DatabaseKind::Postgres => texts!(PgConnection),
            DatabaseKind::Mysql => texts!(MySqlConnection),
        }
    }

    /// The only number of a query; `{expression}` as a number whatever it was.
    pub(crate) async fn number(&self, expression: &str, rest: &str) -> i64 {
        let text = match self.kind {
            DatabaseKind::Mysql => "CHAR",
            DatabaseKind::Sqlite | DatabaseKind::Postgres => "TEXT",
        };
        let texts = self.texts(&format!("SELECT CAST({expression} AS {text}) {rest}")).await;
        texts.first().unwrap().parse().unwrap()
    }

    /// Number of rows of a table.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.number("COUNT(*)", &format!("FROM {table}")).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            fs::remove_dir_all(directory).unwrap_or_default();
        }
    }
}

/// A name that no other test has.
fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{}_{number}_{:08x}", std::process::id(), fastrand::u32(..))
}

/// A running server, kept alive by this.
struct Server {
    port: u16,
    /// Held shared by all who use the server.
    users: Option<File>,
    directory: PathBuf,
    stop: fn(&Path),
}

impl Server {
    fn postgres_url(&self, database: &str) -> String {
        format!("postgres://aiproxy:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    fn mariadb_url(&self, database: &str) -> String {
        format!("mysql://aiproxy:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    fn use_postgres() -> Self {
        Self::used("postgres", start_postgres, stop_postgres)
    }

    fn use_mariadb() -> Self {
        Self::used("mariadb", start_mariadb, stop_mariadb)
    }

    fn used(name: &str, start: fn(&Path, u16), stop: fn(&Path)) -> Self {
        let user = fs::metadata("/proc/self").unwrap().uid();
        let directory = std::env::temp_dir().join(format!("aiproxy-test-{name}-{user}"));
        fs::create_dir_all(&directory).unwrap();
        let users = File::create(directory.join("users.lock")).unwrap();
        // Who starts or stops the server holds this one.
        let starting = File::create(directory.join("starting.lock")).unwrap();
        starting.lock().unwrap();
        let noted = fs::read_to_string(directory.join("port")).ok().and_then(|port| port.parse().ok());
        let running = noted.filter(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
        let port = running.unwrap_or_else(|| {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            start(&directory, port);
            fs::write(directory.join("port"), port.to_string()).unwrap();
            port
        });
        users.lock_shared().unwrap();
        Self { port, users: Some(users), directory, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(users) = self.users.take() else { return };
        let Ok(starting) = File::create(self.directory.join("starting.lock")) else { return };
        if starting.lock().is_err() {
            return;
        }
        // Alone with it: nobody else holds the lock shared.
        if users.unlock().is_ok() && users.try_lock().is_ok() {
            fs::remove_file(self.directory.join("port")).unwrap_or_default();
            (self.stop)(&self.directory);
            // Nobody shall find it dying.
            wait_until("the server ends", || TcpStream::connect(("127.0.0.1", self.port)).is_err());
        }
    }
}

fn start_postgres(directory: &Path, port: u16) {
    let programs = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = programs.map(|version| version.path().join("bin")).max();
    let Some(programs) = programs.filter(|path| path.join("initdb").exists()) else {
        panic!("PostgreSQL is not installed (no /usr/lib/postgresql/*/bin/initdb): {INSTALL}");
    };
    let data = directory.join("data");
    fresh(&data, "postgres");
    let password = directory.join("password");
    fs::write(&password, PASSWORD).unwrap();
    let data_path = data.display().to_string();
    let initdb = programs.join("initdb").display().to_string();
    let password = password.display().to_string();
    succeed(&mut as_user(
        "postgres",
        &[
            &initdb,
            "-D",
            &data_path,
            "-U",
            "aiproxy",
            "-A",
            "scram-sha-256",
            "--pwfile",
            &password,
            "-E",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
            "--no-instructions",
        ],
    ));
    let options = format!(
        "-p {port} -h 127.0.0.1 -k {data_path} -c fsync=off -c full_page_writes=off -c max_connections=200 \
         -c shared_buffers=64MB -c max_wal_size=2GB"
    );
    let pg_ctl = programs.join("pg_ctl").display().to_string();
    let log_path = format!("{data_path}/server.log");
    succeed(&mut as_user(
        "postgres",
        &[&pg_ctl, "-D", &data_path, "-w", "-t", "60", "-l", &log_path, "-o", &options, "start"],
    ));
}

fn stop_postgres(directory: &Path) {
    let Ok(text) = fs::read_to_string(directory.join("data/postmaster.pid")) else { return };
    // SIGQUIT: at once, for nothing of it is needed any more.
    kill("-QUIT", text.lines().next().unwrap_or_default());
}

fn start_mariadb(directory: &Path, port: u16) {
    let server = ["/usr/sbin/mariadbd", "/usr/sbin/mysqld"].into_iter().find(|path| Path::new(path).exists());
    let Some(server) = server.filter(|_| Path::new("/usr/bin/mariadb-install-db").exists()) else {
        panic!("MariaDB is not installed (no /usr/sbin/mariadbd): {INSTALL}");
    };
    let data = directory.join("data");
    fresh(&data, "mysql");
    let data_path = data.display().to_string();
    let init = directory.join("init.sql");
    fs::write(&init, format!("GRANT ALL ON *.* TO 'aiproxy'@'%' IDENTIFIED BY '{PASSWORD}';\n")).unwrap();
    succeed(&mut as_user(
        "mysql",
        &[
            "/usr/bin/mariadb-install-db",
            "--no-defaults",
            &format!("--datadir={data_path}"),
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
    ));
    let mut command = as_user(
        "mysql",
        &[
            server,
            "--no-defaults",
            &format!("--datadir={data_path}"),
            &format!("--socket={data_path}/socket"),
            &format!("--pid-file={data_path}/pid"),
            &format!("--log-error={data_path}/server.log"),
            &format!("--port={port}"),
            "--bind-address=127.0.0.1",
            &format!("--init-file={}", init.display()),
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--innodb-buffer-pool-size=128M",
            "--skip-name-resolve",
        ],
    );
    // It goes on after this process, for others that use it.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    drop(command.spawn().unwrap());
    // It is ready when it greets.
    wait_until(&format!("MariaDB starts; see {data_path}/server.log"), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok() && stream.read_exact(&mut [0]).is_ok()
        })
    });
}

fn stop_mariadb(directory: &Path) {
    kill("-KILL", fs::read_to_string(directory.join("data/pid")).unwrap_or_default().trim());
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("waited for a minute until {what}");
}

fn kill(signal: &str, process: &str) {
    if process.parse::<u32>().is_ok() {
        Command::new("kill").args([signal, process]).status().unwrap();
    }
}

/// An empty directory that belongs to `user`, or to us if we are not root.
fn fresh(path: &Path, user: &str) {
    fs::remove_dir_all(path).unwrap_or_default();
    fs::create_dir_all(path).unwrap();
    if is_root() {
        succeed(Command::new("chown").arg(format!("{user}:")).arg(path));
        succeed(Command::new("chmod").arg("700").arg(path));
    }
}

/// Neither server runs as root.
fn as_user(user: &str, command: &[&str]) -> Command {
    if !is_root() {
        let mut plain = Command::new(command[0]);
        plain.args(&command[1..]);
        return plain;
    }
    let mut other = Command::new("setpriv");
    other.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).args(command);
    other
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{}\n{told}", String::from_utf8_lossy(&output.stdout));
}
