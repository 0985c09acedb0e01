"""Real database servers, started for one test session from Debian's packages, and a way to cut them off."""

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
from pathlib import Path

from harness.polling import until

PASSWORD = "test-password"
QUERY = "SELECT {id}, upstream_request_id, input, output FROM records"
SUMS = "SELECT SUM(calls), SUM(input), SUM(output) FROM rollups WHERE granularity = {granularity}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def binary(*names):
    """The first of these that is installed."""
    for name in names:
        found = sorted(Path("/").glob(name.lstrip("/")))
        if found:
            return str(found[-1])
    raise AssertionError(f"none of {names} is installed: run scripts/install-test-tools")


class Server:
    """A server process with data that goes away. `stop` kills it as a power cut would, `start` brings it back."""

    user = None

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="aiproxy-database-"))
        self.port = free_port()
        self.process = None
        self.directory.chmod(0o755)
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self.prepare()
        self.start()

    def run(self, *command, **options):
        """Run a command as the server's own user: servers refuse to run as root."""
        options = {"stdin": subprocess.DEVNULL, "cwd": self.directory, **options}
        if os.geteuid() == 0:
            command = ("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--", *command)
        return command, options

    def start(self):
        command, options = self.run(*self.command())
        log = (self.directory / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        until(self.is_up, 60, f"{type(self).__name__} starts: {(self.directory / 'server.log').read_text()[-500:]}")

    def ask(self, sql):
        """What a query gives; nothing while there are no tables yet, or the server is still starting."""
        try:
            return self.query(sql)
        except subprocess.CalledProcessError as error:
            if any(words in error.stderr for words in ("does not exist", "doesn't exist", "starting up", "refused")):
                return []
            raise

    def stop(self):
        self.process.kill()
        self.process.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Postgres(Server):
    user = "postgres"

    def prepare(self):
        self.bin = str(Path(binary("/usr/lib/postgresql/*/bin/initdb")).parent)
        command, options = self.run(
            f"{self.bin}/initdb", "-D", str(self.directory / "data"), "-U", "aiproxy", "-A", "trust", "-E", "UTF8"
        )
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)

    def command(self):
        data = str(self.directory / "data")
        return (f"{self.bin}/postgres", "-D", data, "-p", str(self.port), "-k", data, "-h", "127.0.0.1")

    def is_up(self):
        return subprocess.run(self._psql("SELECT 1"), capture_output=True, check=False).returncode == 0

    def _psql(self, sql):
        url = f"postgres://aiproxy@127.0.0.1:{self.port}/postgres"
        return [f"{self.bin}/psql", url, "-X", "-A", "-t", "-F", "\t", "-c", sql]

    def url(self, port=None):
        return f"postgres://aiproxy:{PASSWORD}@127.0.0.1:{port or self.port}/postgres"

    def query(self, sql):
        done = subprocess.run(self._psql(sql), capture_output=True, text=True, check=True)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def rows(self):
        return numbered(self.ask(QUERY.format(id="encode(id::bytea, 'hex')")))


class MariaDb(Server):
    user = "mysql"

    def prepare(self):
        command, options = self.run(
            binary("/usr/bin/mariadb-install-db", "/usr/bin/mysql_install_db"),
            f"--datadir={self.directory / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        first = self.directory / "first.sql"
        first.write_text(
            "CREATE DATABASE IF NOT EXISTS aiproxy;"
            f"CREATE USER IF NOT EXISTS aiproxy@'%' IDENTIFIED BY '{PASSWORD}';"
            "GRANT ALL ON aiproxy.* TO aiproxy@'%';\n".replace(";", ";\n")
        )
        first.chmod(0o644)

    def command(self):
        return (
            binary("/usr/sbin/mariadbd", "/usr/sbin/mysqld"),
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.directory / 'socket'}",
            f"--pid-file={self.directory / 'pid'}",
            f"--init-file={self.directory / 'first.sql'}",
            "--skip-name-resolve",
        )

    def _client(self, sql):
        password, where = f"-p{PASSWORD}", ("-h", "127.0.0.1", "-P", str(self.port))
        client = binary("/usr/bin/mariadb", "/usr/bin/mysql")
        return [client, "--no-defaults", *where, "-u", "aiproxy", password, "-N", "-B", "aiproxy", "-e", sql]

    def is_up(self):
        return subprocess.run(self._client("SELECT 1"), capture_output=True, check=False).returncode == 0

    def url(self, port=None):
        return f"mysql://aiproxy:{PASSWORD}@127.0.0.1:{port or self.port}/aiproxy"

    def query(self, sql):
        done = subprocess.run(self._client(sql), capture_output=True, text=True, check=True)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def rows(self):
        return numbered(self.ask(QUERY.format(id="HEX(id)")))


class Sqlite:
    """The file in a data directory."""

    def __init__(self, path):
        self.path = path

    def query(self, sql):
        if not Path(self.path).exists():
            return []
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def rows(self):
        return self.query(QUERY.format(id="hex(id)"))


def numbered(rows):
    """Texts as a command line client prints them, as numbers where they are."""
    absent = ("", "NULL")
    return [
        (record, None if name in absent else name, *(None if text in absent else int(text) for text in tokens))
        for record, name, *tokens in rows
    ]


def assert_sums_agree(database):
    """The rollups of every granularity are the sums of the rows."""
    rows = database.rows()
    expected = (len(rows), sum(row[2] or 0 for row in rows), sum(row[3] or 0 for row in rows))
    for granularity in (0, 1, 2):
        [sums] = database.query(SUMS.format(granularity=granularity))
        assert tuple(int(number or 0) for number in sums) == expected, f"granularity {granularity}"


def shut(connection):
    """End a connection at once, whoever waits on it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already


class Wire:
    """A TCP way to a server that can be cut: `open`, `refuse` new connections, or `hole`: accept and stay silent."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.state = "open"
        self.pairs = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.state == "refuse":
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                client.close()
                continue
            with self.lock:
                self.pairs.add((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                if self.state == "open":
                    sink.sendall(data)
        except OSError:
            pass
        finally:
            # Closing alone leaves the connection open for as long as the other thread waits in its `recv`.
            for end in (source, sink):
                shut(end)
                end.close()

    def set(self, state):
        """Change what happens. What was swallowed never arrives, so its connections end when it opens again."""
        before, self.state = self.state, state
        if state == "refuse" or before == "hole":
            with self.lock:
                for pair in self.pairs:
                    for end in pair:
                        shut(end)
                self.pairs.clear()

    def stop(self):
        self.set("refuse")
        self.listener.close()
