//! Client secrets: what a server hands to a browser so that it can begin a call, and nothing else.
//!
//! Only digests are kept, in this process and for as long as the secrets are valid. A secret stands for the key that it
//! was made with: whatever ends that key ends it, too. It does not end the calls that it began.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::{KeyDigest, ProxyKey, Snapshot};
use aiproxy_core::time::{self, Instant};
use aiproxy_llm::peek::stable_hash;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::credential::{self, Presented};
use crate::refusal::Refusal;

/// What client secrets begin with: OpenAI's own SDK tells by this that they may be seen in a browser.
const PREFIX: &str = "ek_";
/// How many random bytes follow.
const RANDOM_BYTES: usize = 32;
/// How long it is remembered that a secret has expired, so that its owner is told so. Where room is needed it is forgotten.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Bytes that the sessions of all secrets may take together.
const BYTES_LIMIT: usize = 128 << 20;
/// What a secret takes besides its session.
const ENTRY_BYTES: usize = 256;

/// A client secret, known by its digest.
#[derive(Debug)]
pub(crate) struct ClientSecret {
    /// The key it was made with.
    key: KeyDigest,
    /// The channel it was made for, if one was named.
    channel: Option<Box<str>>,
    /// The session that its calls begin with, as JSON.
    session: Bytes,
    expires: Instant,
    /// How many calls it may begin still; nothing if that is not limited.
    calls_left: Option<AtomicU32>,
}

impl ClientSecret {
    /// A secret for `session`, valid for `lifetime` from now. `most_calls` is how many calls it may begin; 0 is any number.
    pub(super) fn new(
        key: KeyDigest,
        channel: Option<Box<str>>,
        session: Bytes,
        lifetime: Duration,
        most_calls: u32,
    ) -> Self {
        let calls_left = (most_calls > 0).then(|| AtomicU32::new(most_calls));
        Self { key, channel, session, expires: time::now() + lifetime, calls_left }
    }

    /// The session that was stored with it, as a JSON object.
    pub(crate) fn session(&self) -> &Bytes {
        &self.session
    }

    /// The channel it was made for, if one was named.
    pub(crate) fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// The key it stands for, behind that key's digest, if it is still valid. `beside` is a proxy key that came along with it:
    /// nobody mixes the credentials of two users by accident.
    pub(crate) fn key<'snapshot>(
        &self,
        snapshot: &'snapshot Snapshot,
        beside: Option<&ProxyKey>,
    ) -> Result<(KeyDigest, &'snapshot Arc<ProxyKey>), Refusal> {
        // A key that is gone takes its secrets with it.
        let key = snapshot.keys.get(&self.key).ok_or_else(Refusal::invalid_credential)?;
        if beside.is_some_and(|beside| beside.user != key.user) {
            let message =
                "The client secret and the proxy key of this call belong to different users. Send one of them.";
            return Err(Refusal::forbidden("invalid_credential", message));
        }
        if time::now() >= self.expires {
            return Err(invalid("This client secret has expired. Ask your server for a new one."));
        }
        if self.calls_left.as_ref().is_some_and(|left| left.load(Ordering::Acquire) == 0) {
            return Err(used_up());
        }
        Ok((self.key, key))
    }

    /// Tells one key's callers from another's.
    pub(crate) fn hash(&self) -> u64 {
        stable_hash(&[&self.key])
    }

    /// Takes one of its calls. It is given back if the call does not begin.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Taken, Refusal> {
        if let Some(left) = &self.calls_left {
            let less = |left: u32| left.checked_sub(1);
            left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).map_err(|_| used_up())?;
        }
        Ok(Taken(Some(self.clone())))
    }
}

/// One call of a secret, taken. Dropping it gives the call back.
#[derive(Debug)]
pub(crate) struct Taken(Option<Arc<ClientSecret>>);

impl Taken {
    /// The call has begun.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(left) = self.0.take().as_ref().and_then(|secret| secret.calls_left.as_ref()) {
            left.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The secrets there are.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_digest: HashMap<KeyDigest, Arc<ClientSecret>>,
    by_expiry: BTreeSet<(Instant, KeyDigest)>,
    bytes: usize,
}

impl Secrets {
    /// Makes a text for `secret` and keeps it, if there is room: at most `limit` secrets. Those that have expired make room
    /// first.
    pub(super) fn add(&self, secret: ClientSecret, limit: usize) -> Result<String, Refusal> {
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).map_err(|_| Refusal::overloaded())?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        if self.table().insert(key_digest(&text), secret, limit) { Ok(text) } else { Err(full()) }
    }

    /// The secret with this digest, whatever became of it.
    pub(crate) fn find(&self, digest: &KeyDigest) -> Option<Arc<ClientSecret>> {
        self.table().by_digest.get(digest).cloned()
    }

    /// The first secret in any of the places where a key may be.
    pub(crate) fn among(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Arc<ClientSecret>> {
        let find = |text: &str| text.starts_with(PREFIX).then(|| self.find(&key_digest(text))).flatten();
        match credential::presented(headers, query, find) {
            Presented::Known(secret) => Some(secret),
            _ => None,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, digest: KeyDigest, secret: ClientSecret, limit: usize) -> bool {
        let now = time::now();
        let size = secret.session.len() + ENTRY_BYTES;
        while let Some((expires, _)) = self.by_expiry.first() {
            let is_full = self.by_digest.len() >= limit || self.bytes + size > BYTES_LIMIT;
            let kept = if is_full { Duration::ZERO } else { REMEMBERED };
            if now < *expires + kept {
                break;
            }
            self.forget_first();
        }
        if self.by_digest.len() >= limit || self.bytes + size > BYTES_LIMIT {
            return false;
        }
        self.bytes += size;
        self.by_expiry.insert((secret.expires, digest));
        self.by_digest.insert(digest, Arc::new(secret));
        true
    }

    fn forget_first(&mut self) {
        let Some((_, digest)) = self.by_expiry.pop_first() else { return };
        if let Some(secret) = self.by_digest.remove(&digest) {
            self.bytes = self.bytes.saturating_sub(secret.session.len() + ENTRY_BYTES);
        }
    }
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "invalid_credential", message)
}

fn used_up() -> Refusal {
    invalid("This client secret has begun as many calls as it may. Ask your server for a new one.")
}

fn full() -> Refusal {
    let message = "The gateway keeps as many client secrets as it may (system.realtime.max_secrets). Try again later.";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).retry_after(10)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;
    use crate::test_config::caller;

    const MINUTE: Duration = Duration::from_secs(60);

    fn secret(lifetime: Duration, most_calls: u32) -> ClientSecret {
        ClientSecret::new([1; 32], None, Bytes::from_static(b"{}"), lifetime, most_calls)
    }

    fn snapshot() -> Snapshot {
        let (user, key) = caller();
        let (mut other, key2) = (caller().0, ProxyKey { user: 1, ..caller().1 });
        other.id = "user2".into();
        let keys = [([1; 32], Arc::new(key)), ([2; 32], Arc::new(key2))].into_iter().collect();
        Snapshot { users: vec![Arc::new(user), Arc::new(other)], keys, ..Snapshot::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_found_by_its_text_alone_and_is_never_the_same_twice() {
        let secrets = Secrets::default();
        let one = secrets.add(secret(MINUTE, 0), 10).unwrap();
        let other = secrets.add(secret(MINUTE, 0), 10).unwrap();
        assert_eq!((one.len(), &one[..3]), (3 + 43, "ek_"));
        assert_ne!(one, other);
        assert!(secrets.find(&key_digest(&one)).is_some());
        assert!(secrets.find(&key_digest("ek_nobody")).is_none());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {one}")).unwrap());
        assert!(secrets.among(&headers, None).is_some());
        assert!(secrets.among(&HeaderMap::new(), Some(&format!("a=b&key={one}"))).is_some());
        assert!(!format!("{secrets:?}").contains(&one[3..]));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stands_for_its_key_until_it_expires() {
        let (snapshot, secret) = (snapshot(), secret(MINUTE, 0));
        let code = |secret: &ClientSecret, beside: Option<&ProxyKey>| {
            secret
                .key(&snapshot, beside)
                .map(|(_, key)| key.user)
                .map_err(|refusal| (refusal.status.as_u16(), refusal.code))
        };
        assert_eq!(code(&secret, None), Ok(0));
        assert_eq!(code(&secret, Some(&snapshot.keys[&[1; 32]])), Ok(0));
        assert_eq!(code(&secret, Some(&snapshot.keys[&[2; 32]])), Err((403, "invalid_credential")));
        tokio::time::advance(MINUTE).await;
        assert_eq!(code(&secret, None), Err((401, "invalid_credential")));
        assert!(secret.key(&snapshot, None).unwrap_err().message.contains("expired"));
        let gone = ClientSecret::new([9; 32], None, Bytes::new(), MINUTE, 0);
        assert_eq!(code(&gone, None), Err((401, "invalid_credential")));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_calls_at_once_a_single_use_secret_begins_one() {
        let (snapshot, secret) = (snapshot(), Arc::new(secret(MINUTE, 1)));
        let first = secret.take().unwrap();
        assert!(secret.take().is_err());
        assert!(secret.key(&snapshot, None).unwrap_err().message.contains("as many calls"));
        drop(first);
        secret.take().unwrap().keep();
        assert!(secret.take().is_err(), "a call that began is not given back");
        let any = Arc::new(ClientSecret::new([1; 32], None, Bytes::new(), MINUTE, 0));
        (0..100).for_each(|_| any.take().unwrap().keep());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_forgets_what_has_expired_and_nothing_else() {
        let secrets = Secrets::default();
        let short = secrets.add(secret(MINUTE, 0), 2).unwrap();
        let long = secrets.add(secret(10 * MINUTE, 0), 2).unwrap();
        assert_eq!(secrets.add(secret(MINUTE, 0), 2).unwrap_err().code, "overloaded");
        tokio::time::advance(MINUTE).await;
        secrets.add(secret(MINUTE, 0), 2).unwrap();
        assert!(secrets.find(&key_digest(&short)).is_none());
        assert!(secrets.find(&key_digest(&long)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_remembered_for_a_while_and_then_its_memory_is_free() {
        let secrets = Secrets::default();
        let old = secrets.add(secret(MINUTE, 0), 10).unwrap();
        tokio::time::advance(MINUTE).await;
        secrets.add(secret(MINUTE, 0), 10).unwrap();
        assert!(secrets.find(&key_digest(&old)).is_some());
        tokio::time::advance(REMEMBERED + MINUTE).await;
        secrets.add(secret(MINUTE, 0), 10).unwrap();
        let table = secrets.table();
        assert_eq!((table.by_digest.len(), table.by_expiry.len(), table.bytes), (1, 1, ENTRY_BYTES + 2));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_take_no_more_memory_than_there_is_for_them() {
        let secrets = Secrets::default();
        let session = Bytes::from(vec![b'x'; BYTES_LIMIT / 2]);
        let large = || ClientSecret::new([1; 32], None, session.clone(), MINUTE, 0);
        secrets.add(large(), 10).unwrap();
        assert_eq!(secrets.add(large(), 10).unwrap_err().code, "overloaded");
    }
}
