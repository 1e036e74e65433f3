//! What looks like a secret in the contents of files: keys without a PEM label, tokens of known shapes, passwords in settings.
//!
//! Private keys with a PEM label are looked for while layers are written (see [`super::gate`]) and are not looked for again: a layer
//! stands in the store only when all that is in it has passed that gate.

use std::collections::BTreeSet;

use memchr::memmem;

/// The number of these rules. What was found under another number is looked for again.
pub const RULES: u32 = 1;

/// Something that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Found {
    /// In words: "a token of GitHub", or "a password in" and the name of the setting.
    pub what: String,
    /// The line, counted from 1, where the content is text that was read line by line.
    pub line: Option<u32>,
}

/// Files that programs read passwords or keys from, by their names.
const KEPT_FOR_SECRETS: [&[u8]; 7] =
    [b".netrc", b".pgpass", b".my.cnf", b".git-credentials", b".htpasswd", b"id_rsa", b"id_ed25519"];

/// Says what a file holds that has such a name; whether it is empty is for the caller to know.
#[must_use]
pub fn by_name(file_name: &[u8]) -> Option<Found> {
    let what = || Found { what: "a file of this name holds passwords or keys".to_owned(), line: None };
    KEPT_FOR_SECRETS.contains(&file_name).then(what)
}

/// Returns the machine that a program is for, by Debian's name, from its first 20 bytes (ELF, `e_machine`); `None` for what is no
/// program or library.
#[must_use]
pub fn machine(head: &[u8]) -> Option<String> {
    let [0x7f, b'E', b'L', b'F', class, order, ..] = head else { return None };
    let number: [u8; 2] = head.get(18..20)?.try_into().ok()?;
    let number = if *order == 2 { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) };
    let name = match (number, class, order) {
        (3, ..) => "i386",
        (21, _, 1) => "ppc64el",
        (22, 2, _) => "s390x",
        (40, ..) => "armhf",
        (62, 2, _) => "amd64",
        (183, ..) => "arm64",
        (243, 2, _) => "riscv64",
        // Code for a processor of another kind inside a machine: BPF has no machine of its own.
        (247, ..) => return None,
        _ => return Some(format!("machine {number}")),
    };
    Some(name.to_owned())
}

/// Texts that are tokens wherever they stand: how they begin, how many characters follow, and what they are.
struct Shape {
    begin: &'static str,
    least: usize,
    most: usize,
    what: &'static str,
}

const fn shape(begin: &'static str, least: usize, most: usize, what: &'static str) -> Shape {
    Shape { begin, least, most, what }
}

/// Each is documented by whoever gives it out; those without a beginning of their own cannot be told from other words.
const SHAPES: [Shape; 17] = [
    shape("AKIA", 16, 16, "an access key of AWS"),
    shape("ghp_", 36, 36, "a token of GitHub"),
    shape("gho_", 36, 36, "a token of GitHub"),
    shape("ghs_", 36, 36, "a token of GitHub"),
    shape("github_pat_", 82, 82, "a token of GitHub"),
    shape("glpat-", 20, 40, "a token of GitLab"),
    shape("gldt-", 20, 40, "a token of GitLab"),
    shape("npm_", 36, 36, "a token of npm"),
    shape("pypi-AgE", 60, 250, "a token of PyPI"),
    shape("dckr_pat_", 27, 27, "a token of Docker Hub"),
    shape("xoxb-", 40, 80, "a token of Slack"),
    shape("xoxp-", 40, 90, "a token of Slack"),
    shape("AIza", 35, 35, "a key of Google"),
    shape("sk_live_", 24, 110, "a key of Stripe"),
    shape("rk_live_", 24, 110, "a key of Stripe"),
    shape("SG.", 66, 66, "a key of SendGrid"),
    shape("AGE-SECRET-KEY-1", 58, 58, "a private key of age"),
];

/// Bytes of a content that are kept between two pieces: more than twice the longest token.
const OVERLAP: usize = 640;

/// Bytes of a content that are looked at as settings, at most.
pub const MOST_TEXT: usize = 1 << 20;

/// Looks through content as it passes.
#[derive(Debug)]
pub struct Scanner {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Whether something stood before the tail.
    cut: bool,
    /// The whole content, where it is to be read as settings.
    text: Option<Vec<u8>>,
    found: BTreeSet<Found>,
}

impl Scanner {
    /// Starts with nothing seen; `settings` says whether lines such as `password = …` are looked at.
    #[must_use]
    pub fn new(settings: bool) -> Self {
        Self { head: Vec::new(), tail: Vec::new(), cut: false, text: settings.then(Vec::new), found: BTreeSet::new() }
    }

    /// Looks at the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(&bytes[..bytes.len().min(64_usize.saturating_sub(self.head.len()))]);
        if let Some(text) = &mut self.text {
            text.extend_from_slice(&bytes[..bytes.len().min((MOST_TEXT + 1).saturating_sub(text.len()))]);
        }
        // What touches an end of what is looked at may go on beyond it: it is seen whole with the next piece, or was with the last.
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(&bytes[..bytes.len().min(OVERLAP)]);
        self.tokens(&joined, !self.cut, false);
        if bytes.len() > OVERLAP {
            self.tokens(bytes, false, false);
            joined = bytes.to_vec();
            self.cut = true;
        }
        self.cut |= joined.len() > OVERLAP;
        self.tail = joined.split_off(joined.len().saturating_sub(OVERLAP));
    }

    /// Returns the first bytes of the content, 64 at most.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Returns what was found, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Found> {
        let tail = std::mem::take(&mut self.tail);
        self.tokens(&tail, !self.cut, true);
        if let Some(what) = key_file(&self.head) {
            self.found.insert(Found { what: what.to_owned(), line: None });
        }
        let text = self.text.take().filter(|text| text.len() <= MOST_TEXT);
        if let Some(text) = text.as_deref().and_then(|text| std::str::from_utf8(text).ok()) {
            self.found.extend(settings(text));
        }
        self.found.into_iter().collect()
    }

    /// Looks for tokens in a part of the content, which may be its beginning or its end.
    fn tokens(&mut self, bytes: &[u8], first: bool, last: bool) {
        for Shape { begin, least, most, what } in &SHAPES {
            for at in memmem::find_iter(bytes, begin.as_bytes()) {
                let body = &bytes[at + begin.len()..];
                let length = body.iter().take(most + 1).take_while(|byte| in_token(**byte)).count();
                let whole = last || length < body.len();
                let alone = at.checked_sub(1).map_or(first, |before| !in_token(bytes[before]));
                if alone && whole && (*least..=*most).contains(&length) && is_random(&body[..length]) {
                    self.found.insert(Found { what: (*what).to_owned(), line: None });
                }
            }
        }
    }
}

fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Returns whether characters could have been drawn by lot: manuals show `XXXX…` and `…EXAMPLE`.
fn is_random(body: &[u8]) -> bool {
    let different: BTreeSet<u8> = body.iter().copied().collect();
    let upper = body.to_ascii_uppercase();
    different.len() >= 8
        && body.iter().any(u8::is_ascii_digit)
        && body.iter().any(u8::is_ascii_alphabetic)
        && memmem::find(&upper, b"EXAMPLE").is_none()
        && memmem::find(&upper, b"XXXX").is_none()
}

/// Says which kind of key a file is that has no label, by its first bytes.
fn key_file(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"PuTTY-User-Key-File-") {
        return Some("a private key of PuTTY");
    }
    let [0x30, 0x82, _, _, body @ ..] = head else {
        // SEC 1: a key on a curve, in fewer than 256 bytes.
        let short = matches!(head, [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20, ..]);
        // PKCS #8: Ed25519 and its like.
        let edwards = head.starts_with(b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65");
        return (short || edwards).then_some("a private key");
    };
    // PKCS #12 (RFC 7292): version 3, then content of the type `data` or `signedData`.
    if body.starts_with(b"\x02\x01\x03\x30") && memmem::find(body, b"\x2a\x86\x48\x86\xf7\x0d\x01\x07").is_some() {
        return Some("a key store (PKCS #12)");
    }
    // PKCS #8 with an RSA key, and PKCS #1.
    let rsa = body.starts_with(b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01");
    (rsa || body.starts_with(b"\x02\x01\x00\x02\x82")).then_some("a private key")
}

/// Returns what looks like a password in the lines of a settings file or a program.
fn settings(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, line) in (1_u32..).zip(text.lines()) {
        if line.len() > 2000 || is_comment(line) {
            continue;
        }
        if let Some(name) = assignment(line) {
            found.push(Found { what: format!("a password in `{name}`"), line: Some(number) });
        } else if in_address(line) {
            found.push(Found { what: "a password in an address".to_owned(), line: Some(number) });
        }
    }
    found
}

fn is_comment(line: &str) -> bool {
    ["#", "//", ";", "*", "--"].iter().any(|mark| line.trim_start().starts_with(mark))
}

/// Words in names of settings that say a secret stands there. `TOKEN` is no such word: programs have many that are none.
const NAMES: [&str; 6] = ["password", "passwd", "passphrase", "secret", "api_key", "apikey"];

/// Returns the name of a setting that holds a secret as it is: `db_password = hunter2`, `'secret' => 'x'`, `"password": "x"`.
fn assignment(line: &str) -> Option<&str> {
    let in_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    let lower = line.to_ascii_lowercase();
    for word in NAMES {
        for (at, _) in lower.match_indices(word) {
            let begin = line[..at].trim_end_matches(in_name).len();
            let length = line[at..].find(|character| !in_name(character)).unwrap_or(line.len() - at);
            let name = &line[begin..at + length];
            // `password_file`, `passwords`, `secretary`: the word must end the name.
            if !lower[begin..at + length].trim_end_matches(|character: char| character.is_ascii_digit()).ends_with(word) {
                continue;
            }
            let after = line[at + length..].trim_start_matches(['"', '\'', ')', ']']).trim_start();
            let value = ["=>", ":=", "=", ":"].iter().find_map(|sign| after.strip_prefix(sign));
            // `define('DB_PASSWORD', 'x')`.
            let defined = line.trim_start().starts_with("define").then(|| after.strip_prefix(',')).flatten();
            if value.or(defined).is_some_and(|value| !value.starts_with(['=', '~', ':']) && is_literal(value.trim())) {
                return Some(name);
            }
        }
    }
    None
}

/// Returns whether a value is a secret itself, and not where it is taken from, what it is, or nothing.
fn is_literal(value: &str) -> bool {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    let bare = match quote {
        Some(quote) => {
            let Some(inside) = value[1..].find(quote).map(|end| &value[1..=end]) else { return false };
            // In a program the text may only be the beginning: `'a' . $b`, `"x".format()`.
            let rest = value[inside.len() + 2..].trim();
            if !rest.is_empty() && !rest.starts_with([',', ';', ')', ']', '}', '#']) {
                return false;
            }
            inside
        }
        None => value.split(" #").next().unwrap_or_default().trim_end_matches([',', ';']).trim(),
    };
    let known = ["none", "null", "true", "false", "yes", "no", "on", "off", "prompt", "ask", "optional", "required", "string"];
    let taken = ["$", "%", "{", "<", "@", "/", "!", "*", "&", "[", "("].iter().any(|mark| bare.starts_with(mark));
    let inner = bare.contains("${") || bare.contains("$(") || bare.contains("{{");
    // Without quotes a name, a call or a sentence may stand there: only what has digits in it, and nothing else, is taken for a value.
    let plain =
        |character: char| character.is_ascii_graphic() && !matches!(character, '(' | ')' | '[' | ']' | '{' | '}' | '>' | '<');
    let certain = quote.is_some()
        || bare.chars().all(plain)
            && bare.bytes().any(|byte| byte.is_ascii_digit())
            && bare.bytes().any(|byte| byte.is_ascii_alphabetic());
    bare.len() >= 4 && !bare.contains(' ') && !taken && !inner && certain && !known.contains(&bare.to_ascii_lowercase().as_str())
}

/// Returns whether a line has an address with a password in it: `mysql://user:hunter2@host/`.
fn in_address(line: &str) -> bool {
    line.match_indices("://").any(|(at, sign)| {
        let rest = &line[at + sign.len()..];
        let end = rest.find(|character: char| character.is_whitespace() || "/?#\"'`<>".contains(character)).unwrap_or(rest.len());
        let Some((user, _)) = rest[..end].rsplit_once('@') else { return false };
        let Some((_, password)) = user.split_once(':') else { return false };
        let shown = ["$", "{", "%", "[", "*", "pass", "secret", "..."].iter().any(|mark| password.starts_with(mark));
        password.len() >= 4 && !shown && !password.contains(['$', '{', '%', '('])
    })
}

/// Returns the accounts of `/etc/shadow` with which somebody could log in: those with a password, or with none at all.
#[must_use]
pub fn open_accounts(shadow: &[u8]) -> Vec<(String, &'static str)> {
    let account = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, password) = (fields.next()?, fields.next()?);
        let what = match password {
            b"" => "can log in without a password",
            [b'!' | b'*', ..] => return None,
            _ => "has a password in the image",
        };
        Some((crate::model::tree::escape(name), what))
    };
    shadow.split(|byte| *byte == b'\n').filter_map(account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &[u8], step: usize) -> Vec<String> {
        let mut scanner = Scanner::new(true);
        content.chunks(step).for_each(|piece| scanner.feed(piece));
        scanner.finish().into_iter().map(|found| found.what).collect()
    }

    /// Returns characters that could have been drawn by lot.
    fn random(length: usize) -> String {
        "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8".chars().cycle().take(length).collect()
    }

    #[test]
    fn a_token_is_found_wherever_it_stands_and_however_it_is_cut() {
        for Shape { begin, least, what, .. } in &SHAPES {
            let token = format!("{begin}{}", random(*least));
            for around in ["", "key: ", &"x ".repeat(700)] {
                let content = format!("{around}{token} {around}");
                for step in [1, 7, 300, 641, 100_000] {
                    assert_eq!(found(content.as_bytes(), step), [*what], "{token} in pieces of {step}");
                }
                assert_eq!(found(format!("{around}{token}").as_bytes(), 5), [*what], "{token} at the end");
            }
        }
    }

    #[test]
    fn a_word_like_a_token_is_none() {
        for content in [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
            "ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "npm_config_registry_and_what_it_stands_for_",
            "sk_live_",
            &format!("xghp_{}", random(36)),
            &format!("ghp_{}", random(37)),
            &format!("ghp_{}", random(20)),
        ] {
            for step in [1, 100] {
                assert_eq!(found(content.as_bytes(), step), [""; 0], "{content}");
            }
        }
    }

    #[test]
    fn a_key_without_a_label_is_known_by_its_first_bytes() {
        let der = |head: &[u8]| [head, &[0x55; 200]].concat();
        let store = b"\x30\x82\x09\x51\x02\x01\x03\x30\x82\x09\x17\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x82";
        assert_eq!(found(&der(store), 10), ["a key store (PKCS #12)"]);
        for head in [
            b"\x30\x82\x04\xbd\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00".as_slice(),
            b"\x30\x82\x04\xa4\x02\x01\x00\x02\x82\x01\x01\x00",
            b"\x30\x77\x02\x01\x01\x04\x20",
            b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20",
        ] {
            assert_eq!(found(&der(head), 10), ["a private key"]);
        }
        assert_eq!(found(b"PuTTY-User-Key-File-3: ssh-ed25519\n", 10), ["a private key of PuTTY"]);
        // A certificate.
        assert_eq!(found(&der(b"\x30\x82\x03\x52\x30\x82\x02\x3a\xa0\x03\x02\x01\x02"), 10), [""; 0]);
    }

    #[test]
    fn a_password_in_a_setting_is_found_with_its_line() {
        for (line, name) in [
            ("password = hunter2", "password"),
            ("DB_PASSWORD=hunter2", "DB_PASSWORD"),
            ("  db_password: 'changeme'", "db_password"),
            ("\"password\": \"hunter\",", "password"),
            ("'secret' => 'abcdef',", "secret"),
            ("define('DB_PASSWORD', 'motdepasse');", "DB_PASSWORD"),
            ("$settings['hash_secret'] = 'abcdefgh';", "hash_secret"),
            ("export API_KEY=a1b2c3d4", "API_KEY"),
            ("password2 = hunter2 # of the other one", "password2"),
            ("«db_password» = x; é_password='mot de'; 'ñpassword' => 'hunter2'", "password"),
        ] {
            assert_eq!(found(line.as_bytes(), 100), [format!("a password in `{name}`")], "{line}");
        }
        let scanned = {
            let mut scanner = Scanner::new(true);
            scanner.feed(b"# password = hunter2\n\nurl = mysql://app:hunter2@db/x\n");
            scanner.finish()
        };
        assert_eq!(scanned, [Found { what: "a password in an address".into(), line: Some(3) }]);
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_too_strange_to_be_read(line in "[ -~é«\u{2028}=:'\"]{0,40}(password|secret|://)[ -~é«=:'\"@]{0,40}") {
            let _ = found(line.as_bytes(), 9);
        }
    }

    #[test]
    fn a_setting_that_says_where_the_password_is_holds_none() {
        for line in [
            "password_file = /run/secrets/db1",
            "password = ${PASSWORD1}",
            "PASSWORD=$(cat /run/secrets/db)",
            "$password = $_POST['password'];",
            "$password = trim(file_get_contents($path1));",
            "password: string",
            "password =",
            "password = ''",
            "if (password == 'hunter2')",
            "password: { type: string }",
            "'password' => $row['password1'],",
            "<input type=\"password\" name=\"password\" id=\"p1\">",
            "message = 'the password is wrong'",
            "secretary = 'Marie1'",
            "new_password_length = 12ab",
            "ssl_passphrase_dialog: builtin1x",
            "'password' => 'your password here',",
            "password=\"a\" . $b",
            "url = https://db.example:8080/a@b",
            "url = mysql://app:${PASSWORD}@db/x",
            "PasswordAuthentication no",
        ] {
            assert_eq!(found(line.as_bytes(), 100), [""; 0], "{line}");
        }
        let mut plain = Scanner::new(false);
        plain.feed(b"password = hunter2");
        assert_eq!(plain.finish(), [], "only what the recipes bring is read as settings");
    }

    #[test]
    fn a_program_says_for_which_machine_it_is() {
        let elf = |class: u8, order: u8, number: [u8; 2]| {
            machine(&[b"\x7fELF".as_slice(), &[class, order, 1], &[0; 9], &[2, 0], &number].concat())
        };
        assert_eq!(elf(2, 1, [62, 0]).as_deref(), Some("amd64"));
        assert_eq!(elf(2, 1, [183, 0]).as_deref(), Some("arm64"));
        assert_eq!(elf(2, 2, [0, 22]).as_deref(), Some("s390x"));
        assert_eq!(elf(2, 1, [99, 0]).as_deref(), Some("machine 99"));
        assert_eq!((elf(2, 1, [247, 0]), machine(b"#!/bin/sh\n"), machine(b"\x7fELF\x02\x01")), (None, None, None));
        assert!(by_name(b".netrc").is_some() && by_name(b"netrc").is_none());
    }

    #[test]
    fn an_account_that_can_log_in_is_named() {
        let shadow =
            b"root:*:20000::::::\nwww-data:!:20000::::::\nadmin:$y$j9T$abc:20000::::::\nopen::20000::::::\nlocked:!!:1::::::\n";
        let expected =
            [("admin".to_owned(), "has a password in the image"), ("open".to_owned(), "can log in without a password")];
        assert_eq!(open_accounts(shadow), expected);
    }
}
