//! Repositories that are folders of this machine (`file:///…`): Composer, which sees nothing of this machine, asks for their
//! documents at a host that does not exist, and what it writes down afterwards are the real addresses.

/// The host that stands for this machine; names below `.invalid` belong to nobody (RFC 2606).
const HOST: &str = "http://machine.parvis.invalid/";

/// What a `file` URL begins with, also as PHP writes it in JSON.
const FILE: [(&str, &str); 2] = [("file:///", HOST), (r"file:\/\/\/", r"http:\/\/machine.parvis.invalid\/")];

/// Returns a repository's address as Composer gets it.
#[must_use]
pub fn disguised(url: &str) -> String {
    url.strip_prefix("file:///").map_or_else(|| url.to_owned(), |path| format!("{HOST}{path}"))
}

/// Returns where a document is that Composer asks for at the host of this machine: at that path, or below the repository, for an
/// address that begins with a slash has no host to begin at. Nothing where the address is another host's.
#[must_use]
pub fn unveiled(url: &str, repositories: &[&str]) -> Option<Vec<String>> {
    let path = url.strip_prefix(HOST)?;
    let mut places = vec![format!("file:///{path}")];
    places.extend(repositories.iter().map(|repository| format!("{}/{path}", repository.trim_end_matches('/'))));
    places.retain(|place| {
        repositories.iter().any(|repository| place.strip_prefix(repository).is_some_and(|rest| rest.starts_with('/')))
    });
    Some(places)
}

/// Replaces addresses of this machine in a repository's root document by those that Composer can ask for.
#[must_use]
pub fn disguised_document(content: Vec<u8>) -> Vec<u8> {
    replaced(content, |(file, host)| (file, host))
}

/// Puts the real addresses into what Composer wrote.
#[must_use]
pub fn unveiled_document(content: Vec<u8>) -> Vec<u8> {
    replaced(content, |(file, host)| (host, file))
}

fn replaced(content: Vec<u8>, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Vec<u8> {
    match String::from_utf8(content) {
        Ok(text) => FILE
            .iter()
            .fold(text, |text, pair| {
                let (from, to) = direction(*pair);
                text.replace(from, to)
            })
            .into_bytes(),
        // JSON is UTF-8: whoever reads it will say so.
        Err(error) => error.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_this_machine_are_asked_for_and_found_below_their_repository_alone() {
        let asked = disguised("file:///srv/mirror") + "/packages.json";
        assert_eq!(asked, "http://machine.parvis.invalid/srv/mirror/packages.json");
        let repositories = ["file:///srv/mirror"];
        let places = |url: &str| unveiled(url, &repositories);
        assert_eq!(places(&asked).unwrap()[0], "file:///srv/mirror/packages.json");
        let below = places("http://machine.parvis.invalid/p2/acme/a.json").unwrap();
        assert_eq!(below, ["file:///srv/mirror/p2/acme/a.json"]);
        assert_eq!(places("http://machine.parvis.invalid/srv/mirrors/x").unwrap(), ["file:///srv/mirror/srv/mirrors/x"]);
        assert_eq!(places("https://r.example/packages.json"), None);
        assert_eq!(disguised("https://r.example"), "https://r.example");
    }

    #[test]
    fn addresses_in_documents_come_back_as_they_were() {
        let document = br#"{"metadata-url": "file:///srv/m/p2/%package%.json", "x": "file:\/\/\/srv\/m"}"#.to_vec();
        let disguised = disguised_document(document.clone());
        assert!(!String::from_utf8(disguised.clone()).unwrap().contains("file:"));
        assert_eq!(unveiled_document(disguised), document);
        assert_eq!(disguised_document(vec![0xff]), [0xff]);
    }
}
