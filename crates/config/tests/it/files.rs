//! Files and directories: what is read, what is missing, what is watched.

use std::path::{Path, PathBuf};

use aiproxy_config::{Loaded, digest_of, load};

use crate::support::{NOW_MS, environment, lines};

/// A directory of this test's own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiproxy-config-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn load(&self, name: &str) -> Loaded {
        let path = if name.is_empty() { self.0.clone() } else { self.0.join(name) };
        load(&path, &environment, NOW_MS)
    }

    /// Problem lines without the directory's name.
    fn lines(&self, loaded: &Loaded) -> String {
        lines(loaded).replace(&format!("{}/", self.0.display()), "").replace(self.0.to_str().unwrap(), "DIR")
    }

    fn names(&self, loaded: &Loaded) -> Vec<String> {
        let name = |path: &PathBuf| path.strip_prefix(&self.0).unwrap_or(path).display().to_string();
        loaded.files.iter().map(name).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_directory_is_one_config() {
    let directory = Directory::new("one-config");
    directory
        .write("channels.yml", "channels: {c: {base_url: 'http://h', api_key: x}}")
        .write("users-a.yaml", "users: {a: {proxy_key: ka, channels: [c]}}")
        .write("users-b.json", "{\"users\": {\"b\": {\"proxy_key\": \"kb\", \"channels\": [\"c\"]}}}")
        .write("system-1.yaml", "system: {log_level: debug}")
        .write("system-2.yaml", "system: {max_connections: 7}")
        .write("empty.yaml", "")
        .write("users.yaml.example", "users: {broken")
        .write(".hidden.yaml", "users: {broken")
        .write("notes.txt", "users: {broken")
        .write("sub/other.yaml", "users: {broken");
    let loaded = directory.load("");
    assert_eq!(directory.lines(&loaded), "");
    let files = ["channels.yml", "empty.yaml", "system-1.yaml", "system-2.yaml", "users-a.yaml", "users-b.json"];
    assert_eq!(directory.names(&loaded), files);
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(snapshot.users.len(), 2);
    assert_eq!((&*snapshot.system.log_level, snapshot.system.max_connections), ("debug", 7));
    assert_eq!(snapshot.system.data_dir, directory.0.join("data"));
}

#[test]
fn an_id_in_two_files_is_an_error_that_names_both() {
    let directory = Directory::new("two-files");
    directory
        .write(
            "1.yaml",
            "channels: {c: {base_url: 'http://h', api_key: x}}\nusers: {a: {proxy_key: k, channels: [c]}}\n",
        )
        .write(
            "2.yaml",
            "system: {log_level: info}\nusers:\n  a: {proxy_key: k2, channels: [c]}\n  b: {proxy_key: k}\n",
        )
        .write("3.yaml", "system: {log_level: warn}\n");
    let loaded = directory.load("");
    insta::assert_snapshot!(directory.lines(&loaded), @r"
    2.yaml:3:3: error: `a` is written twice; first at 1.yaml:2:9
    2.yaml:4:3: warning: users.b: the user may use no channel; add `channels:` or `groups:`
    2.yaml:4:18: error: users.b.proxy_key: the same key is written twice; first at 1.yaml:2:24
    3.yaml:1:10: error: `log_level` is written twice; first at 2.yaml:1:10
    ");
}

#[test]
fn a_broken_file_is_told_alone() {
    let directory = Directory::new("broken");
    directory.write("1.yaml", "users: {a: {proxy_key: k, channels: [c]}}").write("2.yaml", "channels: {c: [}");
    insta::assert_snapshot!(directory.lines(&directory.load("")), @"2.yaml:1:16: error: not valid YAML: while parsing a node, did not find expected node content");
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let directory = Directory::new("missing");
    insta::assert_snapshot!(directory.lines(&directory.load("")), @"DIR: error: the directory has no *.yaml, *.yml or *.json file; `aiproxy demo` runs without any config; to write one, start from examples/minimal.yaml");
    insta::assert_snapshot!(directory.lines(&directory.load("a.yaml")), @"a.yaml: error: does not exist; `aiproxy demo` runs without any config; to write one, start from examples/minimal.yaml");
    directory.write("a.yaml.example", "");
    insta::assert_snapshot!(directory.lines(&directory.load("a.yaml")), @"a.yaml: error: does not exist; copy its template: cp a.yaml.example a.yaml");
    assert_eq!(directory.names(&directory.load("a.yaml")), ["a.yaml"]);
}

#[test]
fn a_file_that_is_not_utf8_is_told_with_its_line() {
    let directory = Directory::new("utf8");
    directory.write("a.yaml", b"users:\n  a: {name: \"\xd5\xc5\"}\n");
    insta::assert_snapshot!(directory.lines(&directory.load("a.yaml")), @"a.yaml:2:1: error: not UTF-8 text; save the file as UTF-8");
}

#[test]
fn files_named_in_the_config_are_read_relative_to_it_and_watched() {
    let directory = Directory::new("side-files");
    let certificate = "-----BEGIN CERTIFICATE-----\nplaceholder\n-----END CERTIFICATE-----\n";
    directory
        .write("keys/real.txt", "  sk-from-file\n")
        .write("ca.pem", certificate)
        .write("cert.pem", certificate)
        .write("key.pem", "-----BEGIN PRIVATE KEY-----\nplaceholder\n-----END PRIVATE KEY-----\n")
        .write(
            "aiproxy.yaml",
            "channels: {c: {base_url: 'https://h', api_key: 'file:keys/real.txt', tls: {ca_file: ca.pem}}}
system: {tls: {cert: cert.pem, key: key.pem}}",
        );
    let loaded = directory.load("aiproxy.yaml");
    assert_eq!(directory.lines(&loaded), "");
    assert_eq!(directory.names(&loaded), ["aiproxy.yaml", "cert.pem", "key.pem", "ca.pem", "keys/real.txt"]);
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(snapshot.channels[0].credentials[0].api_key.expose(), "sk-from-file");
    assert_eq!(snapshot.channels[0].endpoints[0].tls.ca_pem.as_deref(), Some(certificate));
    assert_eq!(snapshot.system.tls.unwrap().cert, directory.0.join("cert.pem"));

    assert_eq!(directory.load("aiproxy.yaml").digest, loaded.digest, "nothing changed");
    directory.write("keys/real.txt", "sk-new");
    assert_ne!(directory.load("aiproxy.yaml").digest, loaded.digest, "a rotated key counts as a change");

    std::fs::remove_file(directory.0.join("cert.pem")).unwrap();
    directory.write("key.pem", "nothing").write("ca.pem", "nothing");
    insta::assert_snapshot!(directory.lines(&directory.load("aiproxy.yaml")), @r"
    aiproxy.yaml:1:85: error: channels.c.tls.ca_file: the file has no certificate in PEM form
    aiproxy.yaml:2:22: error: system.tls.cert: cannot read `cert.pem`: there is no such file
    aiproxy.yaml:2:37: error: system.tls.key: the file has no private key in PEM form
    ");
}

#[test]
fn a_relative_path_without_a_directory_works() {
    let loaded = load(Path::new("no-such-file.yaml"), &environment, NOW_MS);
    assert!(lines(&loaded).starts_with("no-such-file.yaml: error: does not exist"));
}

#[test]
fn whether_anything_changed_is_known_without_loading() {
    let directory = Directory::new("digest-of");
    let channel = "channels: {c: {base_url: 'http://h', api_key: 'file:keys/one'}, d: {base_url: 'http://h', api_key: 'file:keys/one', credentials: 3}}";
    directory.write("a.yaml", channel).write("b.yaml", "users: {}").write("keys/one", "secret");
    for name in ["", "a.yaml"] {
        let path = if name.is_empty() { directory.0.clone() } else { directory.0.join(name) };
        let loaded = directory.load(name);
        let now = || digest_of(&path, &loaded.files);
        assert_eq!(now(), loaded.digest, "{name}: nothing changed");
        directory.write("keys/one", "other");
        assert_ne!(now(), loaded.digest, "{name}: a secret's file");
        directory.write("keys/one", "secret");
        assert_eq!(now(), loaded.digest);
        directory.write("c.yaml", "system: {}");
        assert_eq!(now() != loaded.digest, name.is_empty(), "{name}: a new file matters to a directory");
        std::fs::remove_file(directory.0.join("c.yaml")).unwrap();
        std::fs::rename(directory.0.join("keys/one"), directory.0.join("keys/two")).unwrap();
        assert_ne!(now(), loaded.digest, "{name}: a file that is gone");
        std::fs::rename(directory.0.join("keys/two"), directory.0.join("keys/one")).unwrap();
    }
    let missing = directory.load("missing.yaml");
    assert_eq!(digest_of(&directory.0.join("missing.yaml"), &missing.files), missing.digest);
    directory.write("missing.yaml", "users: {}");
    assert_ne!(digest_of(&directory.0.join("missing.yaml"), &missing.files), missing.digest);
}
