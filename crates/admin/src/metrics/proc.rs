//! Reads the texts of `/proc` (see `man 5 proc`). Pure; anything unexpected is `None`.

/// `/proc/self/stat` counts time in these. The kernel's interface is fixed at 100 on every architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `/proc/self/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stat {
    /// User and system time together.
    pub(super) cpu_seconds: f64,
    pub(super) threads: u64,
    /// After the machine's start.
    pub(super) start_seconds: f64,
    pub(super) virtual_bytes: u64,
}

pub(super) fn stat(text: &str) -> Option<Stat> {
    // The second field is a name in parentheses, which may hold anything, parentheses too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `man` counts from 1 and the state, first here, is the third.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_seconds: (number(14)? as f64 + number(15)? as f64) / TICKS_PER_SECOND,
        threads: number(20)?,
        start_seconds: number(22)? as f64 / TICKS_PER_SECOND,
        virtual_bytes: number(23)?,
    })
}

/// When the machine started, from `/proc/stat`: seconds since 1970-01-01 UTC.
pub(super) fn boot_seconds(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// The line `name: 123 kB` of `/proc/self/status` or `/proc/meminfo`, in bytes.
pub(super) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of open files, from `/proc/self/limits`. None for `unlimited`, too.
pub(super) fn most_open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Load averages of 1, 5 and 15 minutes, from `/proc/loadavg`.
pub(super) fn load(text: &str) -> Option<[f64; 3]> {
    let mut numbers =
        text.split_ascii_whitespace().map(|word| word.parse::<f64>().ok().filter(|load| load.is_finite()));
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Bytes of all interfaces together, loopback aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

/// From `/proc/net/dev`.
pub(super) fn network(text: &str) -> Option<Network> {
    let mut sums = Network::default();
    // Two lines of headings.
    for line in text.lines().skip(2) {
        let (interface, numbers) = line.split_once(':')?;
        if interface.trim() == "lo" {
            continue;
        }
        let mut numbers = numbers.split_ascii_whitespace();
        let received: u64 = numbers.next()?.parse().ok()?;
        let sent: u64 = numbers.nth(7)?.parse().ok()?;
        sums.received_bytes = sums.received_bytes.saturating_add(received);
        sums.sent_bytes = sums.sent_bytes.saturating_add(sent);
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1200 0 3 0 150 25 0 0 20 0 9 0 123456 987654321 4000 \
        18446744073709551615 1 1 0 0 0 0 0 4096 17642 0 0 0 17 1 0 0 0 0 0\n";
    const NETWORK: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n    \
        lo: 9999999   10    0    0    0     0          0         0  9999999   10    0    0    0     0       0          0\n  \
        eth0:1000      20    0    0    0     0          0         0     3000   30    0    0    0     0       0          0\n\
        wlan0: 5 20 0 0 0 0 0 0 7 30 0 0 0 0 0 0\n";

    #[test]
    fn each_text_is_read() {
        let expected = Stat { cpu_seconds: 1.75, threads: 9, start_seconds: 1234.56, virtual_bytes: 987_654_321 };
        assert_eq!(stat(STAT), Some(expected));
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1795161600\nprocesses 4\n"), Some(1_795_161_600));
        let status = "Name:\ta\nVmRSSish:\t1 kB\nVmRSS:\t   2048 kB\n";
        assert_eq!(kilobytes(status, "VmRSS"), Some(2 << 20));
        let limits = "Limit    Soft Limit  Hard Limit  Units\nMax open files            1024     524288    files\n";
        assert_eq!(most_open_files(limits), Some(1024));
        assert_eq!(load("0.50 1.25 10.00 3/421 4711\n"), Some([0.5, 1.25, 10.0]));
        assert_eq!(network(NETWORK), Some(Network { received_bytes: 1005, sent_bytes: 3007 }));
    }

    #[test]
    fn what_is_not_there_or_odd_is_none() {
        for text in ["", "\n\n\n", "no numbers: here", "4711 (a) S 1", "-1 -1 -1", "Max open files unlimited unlimited"]
        {
            assert_eq!(stat(text), None, "{text}");
            assert_eq!(boot_seconds(text), None, "{text}");
            assert_eq!(kilobytes(text, "VmRSS"), None, "{text}");
            assert_eq!(most_open_files(text), None, "{text}");
        }
        assert_eq!(kilobytes("VmRSS: 18446744073709551615 kB", "VmRSS"), None);
        assert_eq!(load("nan inf 1"), None);
        assert_eq!(network("one\ntwo\neth0: many bytes"), None);
    }

    #[test]
    fn a_text_that_is_cut_anywhere_gives_nothing_or_less() {
        for cut in 0..=NETWORK.len() {
            let sums = network(&NETWORK[..cut]).unwrap_or_default();
            assert!(sums.received_bytes <= 1005 && sums.sent_bytes <= 3007, "cut at {cut}: {sums:?}");
        }
        for cut in 0..=STAT.len() {
            let found = stat(&STAT[..cut]);
            assert!(
                found.is_none_or(|found| found.cpu_seconds == 1.75 && found.threads == 9),
                "cut at {cut}: {found:?}"
            );
        }
    }
}
