//! The admin credential: from the config, from the environment, or made at the first start and shown once.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::{KeyDigest, System};

/// File in the data directory that keeps the digest of the token made here. The token itself is kept nowhere.
const FILE: &str = "admin_token.sha256";

/// Shortest token accepted.
const LEAST_LENGTH: usize = 16;

/// The credential in force.
pub(crate) struct AdminToken {
    /// What a presented token is compared with.
    pub digest: KeyDigest,
    /// The token, if it was made just now and must be shown.
    pub new: Option<String>,
}

impl AdminToken {
    /// Finds or makes the credential. One from the environment must be as long as one in the config must be.
    pub(crate) fn find_or_make(system: &System, from_environment: Option<String>) -> anyhow::Result<Self> {
        if let Some(token) = &system.admin_token {
            return Ok(Self { digest: key_digest(token.expose()), new: None });
        }
        if let Some(token) = from_environment.filter(|token| !token.is_empty()) {
            anyhow::ensure!(
                token.len() >= LEAST_LENGTH,
                "AIPROXY_ADMIN_TOKEN is too short; use at least {LEAST_LENGTH} characters, or unset it to have one made"
            );
            return Ok(Self { digest: key_digest(&token), new: None });
        }
        let path = system.data_dir.join(FILE);
        if let Some(digest) = fs::read_to_string(&path).ok().and_then(|text| decode(text.trim())) {
            return Ok(Self { digest, new: None });
        }
        let token = format!("at-{}", uuid::Uuid::new_v4().simple());
        let digest = key_digest(&token);
        if let Err(error) = keep(&path, &digest) {
            tracing::warn!(path = %path.display(), %error, "the admin token cannot be kept; the next start makes another");
        }
        Ok(Self { digest, new: Some(token) })
    }
}

fn keep(path: &Path, digest: &KeyDigest) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{text}")
}

fn decode(text: &str) -> Option<KeyDigest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_known_again() {
        let data_dir = std::env::temp_dir().join(format!("aiproxy-admin-{}", std::process::id()));
        let system = System { data_dir: data_dir.clone(), ..System::default() };
        let made = AdminToken::find_or_make(&system, None).unwrap();
        assert_eq!(made.digest, key_digest(made.new.as_deref().unwrap()));
        let again = AdminToken::find_or_make(&system, None).unwrap();
        assert_eq!((again.digest, again.new), (made.digest, None));
        let given = AdminToken::find_or_make(&system, Some("given-by-environment".into())).unwrap();
        assert!(AdminToken::find_or_make(&system, Some("short".into())).is_err());
        assert_eq!(given.digest, key_digest("given-by-environment"));
        fs::remove_dir_all(data_dir).unwrap();
    }
}
