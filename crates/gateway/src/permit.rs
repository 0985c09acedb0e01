//! Whether a known caller may call at all, from here, now. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use aiproxy_config::snapshot::{ProxyKey, Snapshot, Status, User};
use ipnet::IpNet;

use crate::refusal::Refusal;
use crate::route;

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'snapshot> {
    /// The user.
    pub(crate) user: &'snapshot User,
    /// The key that was presented.
    pub(crate) key: &'snapshot Arc<ProxyKey>,
}

impl<'snapshot> Caller<'snapshot> {
    /// The caller behind a key of `snapshot`.
    pub(crate) fn of(snapshot: &'snapshot Snapshot, key: &'snapshot Arc<ProxyKey>) -> Self {
        Self { user: &snapshot.users[key.user], key }
    }

    /// Indices of everything that limits the caller: key, user, groups.
    pub(crate) fn limited(&self) -> Vec<u32> {
        self.key.limited.iter().chain(&self.user.limited).copied().collect()
    }

    /// Whether the user and the key may both use `model`.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        [&self.user.models, &self.key.models].iter().all(|list| route::model_allowed(list, model))
    }

    /// Whether they are limited to certain models.
    pub(crate) fn is_limited_to_models(&self) -> bool {
        !self.user.models.is_empty() || !self.key.models.is_empty()
    }

    /// Refuses a caller who is switched off, expired or in the wrong place.
    pub(crate) fn check(&self, client_ip: IpAddr, now_ms: u64) -> Result<(), Refusal> {
        if self.user.status != Status::Active {
            let message = "This user is disabled. Ask your administrator to activate it.";
            return Err(Refusal::forbidden("user_disabled", message));
        }
        if self.key.status != Status::Active {
            let message = "This proxy key is disabled. Use another key, or ask your administrator.";
            return Err(Refusal::forbidden("key_disabled", message));
        }
        if self.key.expires_at_ms.is_some_and(|expiry| now_ms >= expiry) {
            let message = "This proxy key has expired. Ask your administrator for a new one.";
            return Err(Refusal::forbidden("key_expired", message));
        }
        let lists = self.user.ip_allow.iter().map(|list| &**list).chain([&*self.key.ip_allow]);
        for list in lists {
            if !is_allowed(list, client_ip) {
                let message = format!("This proxy key may not be used from {client_ip}.");
                return Err(Refusal::forbidden("ip_not_allowed", message));
            }
        }
        Ok(())
    }
}

fn is_allowed(list: &[IpNet], client_ip: IpAddr) -> bool {
    list.is_empty() || list.iter().any(|network| network.contains(&client_ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_config::caller;

    fn verdict(change: impl FnOnce(&mut User, &mut ProxyKey)) -> Result<(), &'static str> {
        let (mut user, mut key) = caller();
        change(&mut user, &mut key);
        let caller = Caller { user: &user, key: &Arc::new(key) };
        caller.check("198.51.100.7".parse().unwrap(), 1_000).map_err(|refusal| refusal.code)
    }

    #[test]
    fn each_reason_has_its_own_code() {
        let net = |text: &str| -> Box<[IpNet]> { Box::new([text.parse().unwrap()]) };
        assert_eq!(verdict(|_, _| {}), Ok(()));
        assert_eq!(verdict(|user, _| user.status = Status::Disabled), Err("user_disabled"));
        assert_eq!(verdict(|_, key| key.status = Status::Disabled), Err("key_disabled"));
        assert_eq!(verdict(|_, key| key.expires_at_ms = Some(1_000)), Err("key_expired"));
        assert_eq!(verdict(|_, key| key.expires_at_ms = Some(1_001)), Ok(()));
        assert_eq!(verdict(|_, key| key.ip_allow = net("10.0.0.0/8")), Err("ip_not_allowed"));
        assert_eq!(verdict(|_, key| key.ip_allow = net("198.51.100.0/24")), Ok(()));
        let both = |user: &mut User, key: &mut ProxyKey| {
            user.ip_allow = Box::new([net("198.51.0.0/16"), net("203.0.113.0/24")]);
            key.ip_allow = net("198.51.100.0/24");
        };
        assert_eq!(verdict(both), Err("ip_not_allowed"), "every list must allow it");
    }
}
