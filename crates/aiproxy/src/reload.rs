//! Loading the config and following its changes: by notice from the file system and by looking now and then.
//!
//! A broken file changes nothing: the last good snapshot stays in force and every problem is logged once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::{Loaded, Severity};
use aiproxy_core::time;
use aiproxy_gateway::server::tls::ServerCertificate;
use aiproxy_gateway::serving::Serving;
use aiproxy_gateway::state::Gateway;
use aiproxy_ledger::capture::BodyQueue;
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::background::Background;
use crate::logging::LogLevel;

/// Editors write a file in several steps: wait until it has been quiet for this long.
const QUIET: Duration = Duration::from_millis(150);

/// How often it is looked whether a replaced snapshot is still in use.
const RETIRED_LOOK: Duration = Duration::from_secs(1);

/// Reads a config with the environment of this process.
#[expect(clippy::disallowed_methods, reason = "this is the aiproxy crate")]
pub(crate) fn load(path: &Path) -> Loaded {
    aiproxy_config::load(path, &|name| std::env::var(name).ok(), aiproxy_core::time::unix_ms())
}

/// What follows the config of a running gateway.
pub(crate) struct Reloader {
    path: PathBuf,
    gateway: Arc<Gateway>,
    certificate: Option<Arc<ServerCertificate>>,
    log_level: LogLevel,
    adjust: fn(&mut aiproxy_config::snapshot::System, &aiproxy_config::snapshot::System),
    files: Vec<PathBuf>,
    digest: [u8; 32],
    background: Background,
    /// Told which patterns are redacted in captured bodies.
    bodies: Option<BodyQueue>,
    /// Replaced snapshots that some call may still use. Kept here so that no call is the one that has to free them.
    retired: Vec<Arc<Serving>>,
}

impl Reloader {
    /// Follows `path`, whose state at the start was `files` with `digest`.
    pub(crate) fn new(
        path: PathBuf,
        gateway: Arc<Gateway>,
        certificate: Option<Arc<ServerCertificate>>,
        log_level: LogLevel,
        files: Vec<PathBuf>,
        digest: [u8; 32],
        background: Background,
    ) -> Self {
        Self {
            path,
            gateway,
            certificate,
            log_level,
            adjust: keep_what_needs_a_restart,
            files,
            digest,
            background,
            bodies: None,
            retired: Vec::new(),
        }
    }

    /// Tells `bodies` when the patterns to redact change.
    pub(crate) fn follow_redaction(&mut self, bodies: BodyQueue) {
        self.bodies = Some(bodies);
    }

    /// Follows changes until the process ends. `asked` is told when somebody asks for a reload (SIGHUP).
    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<()>) {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watcher = watcher(changed);
        let mut watched = Vec::new();
        let mut looked = time::now();
        loop {
            if self.watch(&mut watcher, &mut watched) {
                // What changed before the watch was placed gave no notice. Unchanged files cost a look, no more.
                self.read_again().await;
            }
            let interval = self.gateway.snapshot().system.config_reload_interval;
            tokio::select! {
                Some(()) = changes.recv() => {
                    while tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|more| more.is_some()) {}
                }
                Some(()) = asked.recv() => tracing::info!("asked to read the config again"),
                () = tokio::time::sleep_until(looked + interval), if !interval.is_zero() => {}
                () = tokio::time::sleep(RETIRED_LOOK), if !self.retired.is_empty() => {
                    self.free_retired().await;
                    continue;
                }
            }
            self.read_again().await;
            looked = time::now();
        }
    }

    async fn read_again(&mut self) {
        let (path, files, known) = (self.path.clone(), self.files.clone(), self.digest);
        // Most looks find nothing new.
        let read =
            self.background.run(move || (aiproxy_config::digest_of(&path, &files) != known).then(|| load(&path)));
        let loaded = match read.await {
            None => return tracing::error!("reading the config ended with a panic; the last good one stays in force"),
            Some(None) => return,
            Some(Some(loaded)) => loaded,
        };
        if loaded.digest == self.digest {
            return;
        }
        self.digest = loaded.digest;
        self.files = loaded.files;
        report(&loaded.problems);
        let Some(mut snapshot) = loaded.snapshot else {
            let errors: Vec<String> = loaded
                .problems
                .iter()
                .filter(|problem| problem.severity == Severity::Error)
                .map(ToString::to_string)
                .collect();
            tracing::error!(problems = errors.len(), "the config is broken; the last good one stays in force");
            self.gateway.config_is_broken(errors.join("\n"));
            return;
        };
        (self.adjust)(&mut snapshot.system, &self.gateway.snapshot().system);
        if let (Some(certificate), Some(files)) = (&self.certificate, &snapshot.system.tls)
            && let Err(error) = certificate.reload(files)
        {
            tracing::error!(%error, "the new certificate cannot be used; the old one stays in force");
        }
        self.log_level.set(&snapshot.system.log_level);
        let (users, proxy_keys, channels) = (snapshot.users.len(), snapshot.keys.len(), snapshot.channels.len());
        if let Some(bodies) = &self.bodies {
            bodies.set_redact(&snapshot.system.redact);
        }
        let gateway = self.gateway.clone();
        match self.background.run(move || gateway.swap(snapshot)).await {
            None => tracing::error!("putting the config in force ended with a panic; the last good one stays in force"),
            Some(before) => {
                tracing::info!(users, proxy_keys, channels, "the new config is in force");
                self.retired.push(before);
            }
        }
    }

    /// Frees the snapshots that no call uses any more.
    async fn free_retired(&mut self) {
        let (free, used) = self.retired.drain(..).partition(|serving| Arc::strong_count(serving) == 1);
        self.retired = used;
        let free: Vec<Arc<Serving>> = free;
        if !free.is_empty() {
            self.background.run(move || drop(free)).await;
        }
    }

    /// Watches the directories of all files read: an editor that saves by renaming is noticed too. True if one is new.
    fn watch(&self, watcher: &mut Option<notify::RecommendedWatcher>, watched: &mut Vec<PathBuf>) -> bool {
        let Some(watcher) = watcher else { return false };
        let before = watched.len();
        let directories =
            self.files.iter().filter_map(|file| file.parent()).chain(self.path.is_dir().then_some(&*self.path));
        for directory in directories {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            if watched.iter().any(|known| known == directory) {
                continue;
            }
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => watched.push(directory.to_path_buf()),
                Err(error) => {
                    tracing::warn!(path = %directory.display(), %error, "cannot be watched; looked at by interval only");
                }
            }
        }
        watched.len() > before
    }
}

/// Logs each problem once, where it is handled.
pub(crate) fn report(problems: &[aiproxy_config::Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Warning => tracing::warn!("{problem}"),
        }
    }
}

/// Sockets are bound once, sinks begin once, and sums are of one time zone: a change of these fields is named and waits
/// for the next start.
fn keep_what_needs_a_restart(new: &mut aiproxy_config::snapshot::System, old: &aiproxy_config::snapshot::System) {
    let changes = [
        ("system.listen", new.listen != old.listen),
        ("system.admin.listen", new.admin_listen != old.admin_listen),
        ("system.admin.token", new.admin_token != old.admin_token),
        ("system.data_dir", new.data_dir != old.data_dir),
        ("system.log", new.log != old.log),
        ("system.journal", new.journal != old.journal),
        ("system.database", new.database != old.database),
        ("system.timezone", new.timezone != old.timezone),
        ("system.tls", new.tls.is_some() != old.tls.is_some()),
    ];
    for (field, changed) in changes {
        if changed {
            tracing::warn!(field, "this change takes effect at the next start");
        }
    }
    new.listen.clone_from(&old.listen);
    new.admin_listen = old.admin_listen;
    new.admin_token.clone_from(&old.admin_token);
    new.data_dir.clone_from(&old.data_dir);
    new.log.clone_from(&old.log);
    new.journal.clone_from(&old.journal);
    new.database.clone_from(&old.database);
    new.timezone.clone_from(&old.timezone);
}

fn watcher(changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let notice = move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too; only what may change contents counts. A full channel already says it.
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| may_be_config(path))) {
            changed.try_send(()).ok();
        }
    };
    match notify::recommended_watcher(notice) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched; they are looked at by interval only");
            None
        }
    }
}

/// Files that grow all the time (records, logs, sockets, databases) are not worth a look.
fn may_be_config(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    const GROWING: [&str; 7] = [".jsonl", ".log", ".sock", ".swp", ".tmp", ".parquet", "~"];
    !GROWING.iter().any(|ending| name.ends_with(ending)) && ![".jsonl.", ".db"].iter().any(|part| name.contains(part))
}
