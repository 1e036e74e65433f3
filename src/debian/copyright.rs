//! What a package's copyright file says of its licences, where it is in the machine-readable format (copyright-format 1.0).
//!
//! Such files are written by hand and are no control files in the strict sense: lines of white space stand between
//! paragraphs, and bytes are not always UTF-8. What cannot be read with certainty is no statement at all: a licence that was
//! passed over would be worse than none.

use std::collections::BTreeMap;

use crate::model::licence::{self, Licence, LicenceTexts};

/// Bytes of a file that is read at most; the longest of Debian 13 has less than 2 MiB.
pub const LIMIT: u64 = 8 << 20;

/// Paragraphs at most.
const MOST_PARAGRAPHS: usize = 100_000;

/// What a copyright file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The licence of the package: as its header says, else that of all files together.
    pub licence: Licence,
    /// The texts of what the SPDX list does not have.
    pub texts: LicenceTexts,
}

/// One field: its name in small letters, and the lines of its value.
type Fields = Vec<(String, Vec<String>)>;

/// Reads a copyright file; nothing where it is written for people only, or is not sound.
#[must_use]
pub fn declared(content: &[u8]) -> Option<Declared> {
    let text = String::from_utf8_lossy(content);
    let paragraphs = paragraphs(&text)?;
    let (header, rest) = paragraphs.split_first()?;
    let format = ["format", "format-specification"].iter().find_map(|name| field(header, name))?.join(" ").to_ascii_lowercase();
    if !["copyright-format", "dep5", "dep-5", "dep.debian.net"].iter().any(|name| format.contains(name)) {
        return None;
    }
    let mut texts = Texts::default();
    let mut of_files = Vec::new();
    for paragraph in rest {
        let licence = field(paragraph, "license").map(stanza);
        match (field(paragraph, "files").is_some(), licence) {
            (true, Some(licence)) => of_files.push(licence),
            (false, Some((name, text))) => {
                texts.alone.entry(name.to_ascii_lowercase()).or_insert(text);
            }
            // Whatever is said of files has a licence.
            (true, None) => return None,
            (false, None) => {}
        }
    }
    let whole: Vec<(String, String)> = match field(header, "license").map(stanza) {
        Some(whole) => vec![whole],
        None => of_files.clone(),
    };
    for (name, text) in of_files.into_iter().chain(whole.clone()).filter(|(_, text)| !text.is_empty()) {
        texts.alone.entry(name.to_ascii_lowercase()).or_insert(text);
    }
    let licences: Option<Vec<Licence>> = whole.iter().map(|(name, text)| texts.licence(name, text)).collect();
    Some(Declared { licence: Licence::all(licences?)?, texts: texts.referred })
}

/// Licence texts: those that stand there, by name in small letters, and those that are referred to.
#[derive(Default)]
struct Texts {
    alone: BTreeMap<String, String>,
    referred: LicenceTexts,
}

impl Texts {
    fn licence(&mut self, name: &str, own: &str) -> Option<Licence> {
        if name.is_empty() {
            return None;
        }
        let Self { alone, referred } = self;
        let mut refer = |name: &str| {
            let text = alone.get(&name.to_ascii_lowercase()).map_or(own, String::as_str);
            let text = if text.is_empty() { "The copyright file names this licence without its text." } else { text };
            licence::refer(referred, "debian", name, text)
        };
        let parsed = licence::parse(name, &mut |term, with| {
            let text = alone.get(&term.to_ascii_lowercase()).map_or(own, String::as_str);
            match (identifier(term, text), with) {
                (Some(known), None) => Licence::Term(known),
                (Some(known), Some(words)) => match licence::exception(&known, words) {
                    Some(exception) => Licence::Term(format!("{known} WITH {exception}")),
                    None => refer(&format!("{term} with {words}")),
                },
                (None, None) => refer(term),
                (None, Some(words)) => refer(&format!("{term} with {words}")),
            }
        });
        Some(parsed.unwrap_or_else(|| refer(name)))
    }
}

/// Returns the SPDX identifier of one of Debian's short names, which are mostly SPDX's own.
fn identifier(name: &str, text: &str) -> Option<String> {
    let known = match name.to_ascii_lowercase().as_str() {
        "expat" => "MIT",
        "apache-2" => "Apache-2.0",
        "mpl-2" => "MPL-2.0",
        "cc0" => "CC0-1.0",
        "oldap-2.8" | "openldap-2.8" => "OLDAP-2.8",
        // Perl's version is the one that Debian keeps; others have the same name.
        "artistic" if text.contains("/usr/share/common-licenses/Artistic") || text.contains("which comes with Perl") => {
            "Artistic-1.0-Perl"
        }
        "artistic" => return None,
        _ => return licence::identifier(name),
    };
    Some(known.to_owned())
}

fn field<'a>(paragraph: &'a Fields, name: &str) -> Option<&'a [String]> {
    paragraph.iter().find(|(known, _)| known == name).map(|(_, lines)| &lines[..])
}

/// Returns the name and the text of a `License` field.
fn stanza(lines: &[String]) -> (String, String) {
    let name = lines.first().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let text: Vec<&str> = lines.iter().skip(1).map(|line| if line.trim() == "." { "" } else { line.as_str() }).collect();
    (name, text.join("\n").trim_matches('\n').to_owned())
}

/// Returns the paragraphs; nothing where a line is neither a field nor the continuation of one, or a field stands twice.
fn paragraphs(text: &str) -> Option<Vec<Fields>> {
    let mut paragraphs: Vec<Fields> = Vec::new();
    let mut current = Fields::new();
    for line in text.lines().map(|line| line.trim_end().trim_start_matches('\u{feff}')) {
        if line.is_empty() {
            if !current.is_empty() {
                paragraphs.push(std::mem::take(&mut current));
            }
            if paragraphs.len() > MOST_PARAGRAPHS {
                return None;
            }
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            current.last_mut()?.1.push(line[1..].to_owned());
        } else {
            let (name, value) = line.split_once(':')?;
            let name = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) || field(&current, &name).is_some() {
                return None;
            }
            current.push((name, vec![value.trim().to_owned()]));
        }
    }
    if !current.is_empty() {
        paragraphs.push(current);
    }
    Some(paragraphs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n";

    fn read(body: &str) -> Option<Declared> {
        declared(format!("{HEADER}{body}").as_bytes())
    }

    fn expression(body: &str) -> String {
        read(body).map_or_else(|| "nothing".to_owned(), |declared| declared.licence.to_string())
    }

    #[test]
    fn the_licences_of_all_files_hold_together() {
        let body = "Files: *\nCopyright: 2020 A\nLicense: GPL-2+\n\nFiles: lib/*\nCopyright: B\nLicense: Expat\n\n\
            Files: debian/*\nCopyright: C\nLicense: GPL-2+\n\nLicense: GPL-2+\n On Debian systems …\n";
        assert_eq!(expression(body), "GPL-2.0-or-later AND MIT");
        assert!(read(body).unwrap().texts.is_empty());
    }

    #[test]
    fn the_header_speaks_for_the_whole() {
        let text = "Format: http://dep.debian.net/deps/dep5\nLicense: BSD-3-clause\n\nFiles: *\nCopyright: A\nLicense: GPL-1+\n";
        assert_eq!(declared(text.as_bytes()).unwrap().licence.to_string(), "BSD-3-Clause");
    }

    #[test]
    fn choices_and_commas_are_kept() {
        let body = "Files: *\nCopyright: A\nLicense: GPL-2+ or Artistic, and BSD-3-clause\n\n\
            License: Artistic\n The complete text is in `/usr/share/common-licenses/Artistic'.\n";
        assert_eq!(expression(body), "BSD-3-Clause AND (Artistic-1.0-Perl OR GPL-2.0-or-later)");
    }

    #[test]
    fn what_the_list_does_not_have_is_a_reference_with_its_text() {
        let body = "Files: *\nCopyright: A\nLicense: public-domain\n This file\n .\n   belongs to nobody.\n\n\
            Files: x\nCopyright: A\nLicense: GPL-3+ with Autoconf exception\n\n\
            License: GPL-3+ with Autoconf exception\n As a special exception …\n";
        let read = read(body).unwrap();
        let texts: Vec<_> = read.texts.values().map(|text| (text.name.as_str(), text.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                ("GPL-3+ with Autoconf exception", "As a special exception …"),
                ("public-domain", "This file\n\n  belongs to nobody.")
            ]
        );
        assert_eq!(read.licence.references().into_iter().collect::<Vec<_>>(), read.texts.keys().collect::<Vec<_>>());
    }

    #[test]
    fn the_same_name_with_another_text_is_another_licence() {
        let body = |text: &str| format!("Files: *\nCopyright: A\nLicense: permissive\n {text}\n");
        assert_ne!(expression(&body("Do what you want.")), expression(&body("Do nothing.")));
        assert_eq!(expression(&body("Do nothing.")), expression(&body("Do nothing.")));
    }

    #[test]
    fn an_artistic_licence_of_unknown_version_keeps_its_text() {
        let body = "Files: *\nCopyright: A\nLicense: Artistic\n Some other terms.\n";
        assert!(expression(body).starts_with("LicenseRef-debian-Artistic-"));
    }

    #[test]
    fn a_name_that_is_no_expression_is_referred_to_as_a_whole() {
        let body = "Files: *\nCopyright: A\nLicense: GPL-2+, LGPL-2.1 and others\n See there.\n";
        assert!(expression(body).starts_with("LicenseRef-debian-GPL-2---LGPL-2.1-and-others-"), "{}", expression(body));
    }

    #[test]
    fn a_file_for_people_declares_nothing() {
        for text in
            ["", "This package was debianized by A.\n\nLicense: GPL-2\n", "Format: something else\n\nFiles: *\nLicense: Expat\n"]
        {
            assert_eq!(declared(text.as_bytes()), None, "{text}");
        }
        // One stanza that says nothing, or a line that cannot be read, may hide a licence.
        for body in [
            "Files: *\nCopyright: A\n",
            "Files: *\nCopyright: A\nLicense:\n",
            "Files: *\nLicense: Expat\n\nnot a field\n",
            "Files: *\nLicense: Expat\nLicense: GPL-2\n",
            "License: GPL-2\n text\n",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn white_space_carriage_returns_and_other_encodings_do_no_harm() {
        let text = format!("\u{feff}{HEADER}  \nFiles: *\r\nCopyright: Andr\\xe9\r\nLicense: Expat\r\n \t\n").into_bytes();
        assert_eq!(declared(&text).unwrap().licence.to_string(), "MIT");
        let mut text = format!("{HEADER}Files: *\nCopyright: ").into_bytes();
        text.extend(b"Andr\xe9\nLicense: ISC\n");
        assert_eq!(declared(&text).unwrap().licence.to_string(), "ISC");
    }
}
