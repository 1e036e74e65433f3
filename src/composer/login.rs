//! Names and passwords for repositories: `COMPOSER_AUTH`, the variable that Composer itself reads.

use std::collections::BTreeMap;
use std::fmt;

use super::json::{Json, JsonError, parse};
use crate::model::address::Address;

/// The variable, and what messages call its content.
pub const COMPOSER_AUTH: &str = "COMPOSER_AUTH";

/// A name and a password for each host, with its port where it has one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Logins(BTreeMap<String, (String, String)>);

impl fmt::Debug for Logins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Logins {
    /// Reads `{"http-basic": {"HOST": {"username": …, "password": …}}}`. Other kinds of logins are for hosts of sources, which
    /// parvis does not ask.
    ///
    /// # Errors
    /// Says what is wrong, without anything of the content.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        // The messages of a reader of JSON could show what stands there.
        let unusable = || JsonError { file: COMPOSER_AUTH.to_owned(), what: "is not JSON".to_owned() };
        let value = parse(COMPOSER_AUTH, text.as_bytes()).map_err(|_| unusable())?;
        let json = Json::new(COMPOSER_AUTH, &value);
        let mut logins = BTreeMap::new();
        for (host, login) in json.get("http-basic").map_or_else(|| Ok(Vec::new()), |hosts| hosts.members("http-basic"))? {
            let field = |key: &str| -> Result<String, JsonError> {
                login.text(key)?.map(str::to_owned).ok_or_else(|| json.wrong(format!("has an entry without `{key}`")))
            };
            logins.insert(host.to_ascii_lowercase(), (field("username")?, field("password")?));
        }
        Ok(Self(logins))
    }

    /// Returns an address with the name and the password that its host wants, if they are known. It is for fetching alone.
    #[must_use]
    pub fn apply(&self, url: &str) -> String {
        let address = Address::parse(url);
        let login = address.as_ref().ok().and_then(Address::origin).and_then(|origin| {
            let (scheme, host) = origin.split_once("://")?;
            Some((scheme, host, self.0.get(&host.to_ascii_lowercase())?))
        });
        let Some((scheme, host, (name, password))) = login else { return url.to_owned() };
        let rest = &url[scheme.len() + 3 + host.len()..];
        format!("{scheme}://{}:{}@{host}{rest}", encoded(name), encoded(password))
    }
}

/// Encodes a part of an address's user information (RFC 3986, section 3.2.1).
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_goes_to_its_own_host_alone() {
        let logins =
            Logins::parse(r#"{"http-basic": {"R.example:8443": {"username": "me", "password": "p@:/x"}}, "github-oauth": {}}"#);
        let logins = logins.unwrap();
        assert_eq!(logins.apply("https://r.example:8443/a?b"), "https://me:p%40%3A%2Fx@r.example:8443/a?b");
        for other in ["https://r.example/a", "https://x.example:8443/", "file:///srv/a", "dist/a.zip"] {
            assert_eq!(logins.apply(other), other);
        }
        assert_eq!(format!("{logins:?}"), r#"{"r.example:8443"}"#);
        assert_eq!(Logins::parse("{}").unwrap(), Logins::default());
    }

    #[test]
    fn what_is_wrong_is_told_without_a_word_of_it() {
        for text in ["{secret", "[]", r#"{"http-basic": {"h": {"username": "secret"}}}"#, r#"{"http-basic": "secret"}"#] {
            let error = Logins::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("`COMPOSER_AUTH` ") && !error.contains("secret"), "{error}");
        }
    }
}
