//! The report of a rebuild: one list of parts, written as Markdown or as a page of its own, in each language; and the `OpenVEX` document.

use std::collections::BTreeSet;

use super::Done;
use super::words::Words;
use crate::debian::changelog::Registry;
use crate::image::canonical::JsonError;
use crate::image::vex::{self, Fixed, FixedImage, FixedPackage};
use crate::model::language::Language;

/// The files of the report: name, language, whether it is a page.
pub const FILES: [(&str, Language, bool); 4] = [
    ("report.md", Language::English, false),
    ("report.html", Language::English, true),
    ("rapport.md", Language::French, false),
    ("rapport.html", Language::French, true),
];

/// A part of a report.
pub enum Part {
    Title(String),
    Heading(String),
    Text(String),
    List(Vec<String>),
    /// A list that only few read.
    Fold(String, Vec<String>),
    /// What is done one after the other.
    Steps(Vec<String>),
    Table(Vec<String>, Vec<Vec<String>>),
    /// What a changelog says, as it was written, which is in English.
    Quote {
        title: String,
        text: String,
    },
}

/// Returns the report.
pub fn write(done: &Done, language: Language, html: bool) -> String {
    let words = Words(language);
    let parts = words.report(done);
    if html { page(&parts, language) } else { markdown(&parts) }
}

fn markdown(parts: &[Part]) -> String {
    let mut out = String::new();
    for part in parts {
        let text = match part {
            Part::Title(text) => format!("# {}", plain(text)),
            Part::Heading(text) => format!("## {}", plain(text)),
            Part::Text(text) => plain(text),
            Part::List(items) => items.iter().map(|item| format!("- {}", plain(item))).collect::<Vec<_>>().join("\n"),
            Part::Fold(title, items) => {
                let items: Vec<String> = items.iter().map(|item| format!("- {}", plain(item))).collect();
                format!("{}\n\n{}", plain(title), items.join("\n"))
            }
            Part::Steps(steps) => {
                let step = |(at, step): (usize, &String)| format!("{}. {}", at + 1, plain(step));
                steps.iter().enumerate().map(step).collect::<Vec<_>>().join("\n")
            }
            Part::Table(head, rows) => {
                let row = |cells: &[String]| {
                    let cells: Vec<String> = cells.iter().map(|cell| plain(cell).replace('|', "\\|")).collect();
                    format!("| {} |", cells.join(" | "))
                };
                let rule: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
                [row(head), row(&rule)].into_iter().chain(rows.iter().map(|cells| row(cells))).collect::<Vec<_>>().join("\n")
            }
            // Four blanks: nothing in a changelog is then read as Markdown.
            Part::Quote { title, text } => {
                let lines = text.lines().map(|line| format!("    {line}").trim_end().to_owned());
                format!("{}\n\n{}", plain(title), lines.collect::<Vec<_>>().join("\n"))
            }
        };
        out.push_str(&text);
        out.push_str("\n\n");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Returns text in which Markdown finds nothing of its own but `code`.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            '<' | '>' | '*' | '_' | '[' | ']' | '\\' => vec!['\\', character],
            _ => vec![character],
        })
        .collect()
}

/// How a page looks: readable on paper, on a telephone and in the dark, with nothing from elsewhere.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1.05rem/1.55 sans-serif;color:#1c1c1c;background:#fff;margin:0}\
main{max-width:52rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.25rem;margin-top:2rem;border-bottom:1px solid #767676}\
li{margin:.35rem 0}code,pre{font-family:monospace;font-size:.92em;overflow-wrap:anywhere}\
code{background:#eee;padding:.1em .3em;border-radius:.2em}\
table{border-collapse:collapse;width:100%}td,th{border:1px solid #767676;padding:.35rem .6rem;text-align:left;vertical-align:top}\
thead th{background:#eee}pre{background:#f4f4f4;padding:.8rem;white-space:pre-wrap}summary{cursor:pointer;padding:.3rem 0}\
@media(max-width:40rem){thead{position:absolute;clip-path:inset(50%)}table,tbody,tr,td,tbody th{display:block}\
tr{border:1px solid #767676;margin-bottom:1rem}td,tbody th{border:0}td::before{content:attr(data-name) ': ';font-weight:bold}}\
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}code,thead th,pre{background:#2c2c2c}}";

fn page(parts: &[Part], language: Language) -> String {
    let title = parts.iter().find_map(|part| if let Part::Title(text) = part { Some(escaped(text)) } else { None });
    let title = title.unwrap_or_default();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        language.code()
    );
    for part in parts {
        let text = match part {
            Part::Title(text) => format!("<h1>{}</h1>", coded(text)),
            Part::Heading(text) => format!("<h2>{}</h2>", coded(text)),
            Part::Text(text) => format!("<p>{}</p>", coded(text)),
            Part::List(items) => format!("<ul>\n{}</ul>", listed(items)),
            Part::Steps(steps) => format!("<ol>\n{}</ol>", listed(steps)),
            Part::Table(names, rows) => {
                // The roles say what a narrow screen's style would hide from those who listen: that it is a table.
                let head = names.iter().map(|cell| format!("<th scope=\"col\" role=\"columnheader\">{}</th>", coded(cell)));
                // There each cell stands on a line of its own, behind the name of its column.
                let cell = |(name, cell): (&String, &String)| {
                    format!("<td role=\"cell\" data-name=\"{}\">{}</td>", escaped(name), coded(cell))
                };
                let rows = rows.iter().map(|cells| {
                    let rest: String = names.iter().zip(cells).skip(1).map(cell).collect();
                    let first = cells.first().map(|cell| coded(cell)).unwrap_or_default();
                    format!("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">{first}</th>{rest}</tr>\n")
                });
                format!(
                    "<table role=\"table\">\n<thead role=\"rowgroup\"><tr role=\"row\">{}</tr></thead>\n<tbody role=\"rowgroup\">\n{}</tbody>\n</table>",
                    head.collect::<String>(),
                    rows.collect::<String>()
                )
            }
            Part::Fold(title, items) => {
                format!("<details><summary>{}</summary>\n<ul>\n{}</ul></details>", coded(title), listed(items))
            }
            Part::Quote { title, text } => {
                format!("<details><summary>{}</summary><pre lang=\"en\">{}</pre></details>", coded(title), escaped(text))
            }
        };
        out.push_str(&text);
        out.push('\n');
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn listed(items: &[String]) -> String {
    items.iter().map(|item| format!("<li>{}</li>\n", coded(item))).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Escapes text, and shows what stands between backticks as code.
fn coded(text: &str) -> String {
    let parts: Vec<String> = text.split('`').map(escaped).collect();
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        match index % 2 {
            1 if index + 1 < parts.len() => out.push_str(&format!("<code>{part}</code>")),
            1 => out.push_str(&format!("`{part}")),
            // In French these stand alone behind a blank, and never at the beginning of a line.
            _ => out.push_str(&part.replace(" :", "\u{a0}:").replace(" ;", "\u{a0};")),
        }
    }
    out
}

/// Returns the `OpenVEX` document: every hole that a changelog names as closed, in every image that has the package.
///
/// # Errors
/// Only where the document cannot be written, which is a bug.
pub fn vex(done: &Done) -> Result<Vec<u8>, JsonError> {
    let mut fixed = Fixed::new();
    for (upload, account) in done.intention.moves.uploads.iter().zip(&done.intention.accounts) {
        let Ok(account) = account else { continue };
        let holes = account.advisories().into_iter().filter(|name| name.registry == Registry::Cve);
        for hole in holes {
            for image in &done.images {
                let packages: BTreeSet<FixedPackage> = upload
                    .packages
                    .iter()
                    .filter(|moved| ["all", image.platform.as_str()].contains(&moved.to.architecture.as_str()))
                    .filter(|moved| image.changed.contains(moved.to.name.as_str()))
                    .map(|moved| FixedPackage {
                        name: moved.to.name.to_string(),
                        version: moved.to.version.clone(),
                        architecture: moved.to.architecture.to_string(),
                    })
                    .collect();
                if packages.is_empty() {
                    continue;
                }
                let image = FixedImage {
                    name: image.name.to_string(),
                    architecture: image.platform.to_string(),
                    manifest: image.after.record.manifest,
                };
                fixed.entry(hole.to_string()).or_default().insert(image, packages);
            }
        }
    }
    vex::document(&done.project, &done.date, &fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_changelog_says_is_neither_markdown_nor_a_tag() {
        let parts = [
            Part::Title("A `b` <i>".into()),
            Part::List(vec!["*x* [y](z) `c".into(), "a : `b :` ; c".into()]),
            Part::Table(vec!["h".into(), "\"i".into()], vec![vec!["a|b".into(), "`c`".into()]]),
            Part::Steps(vec!["one".into(), "two".into()]),
            Part::Fold("f".into(), vec!["g".into()]),
            Part::Quote { title: "`d` <e>".into(), text: "  * <script>\n# no heading\n".into() },
        ];
        let text = markdown(&parts);
        assert_eq!(
            text,
            "# A `b` \\<i\\>\n\n- \\*x\\* \\[y\\](z) `c\n- a : `b :` ; c\n\n| h | \"i |\n| --- | --- |\n| a\\|b | `c` |\n\n1. one\n2. two\n\nf\n\n- g\n\n\
             `d` \\<e\\>\n\n      * <script>\n    # no heading\n"
        );
        let page = page(&parts, Language::French);
        assert!(page.contains("<html lang=\"fr\">") && page.contains("<h1>A <code>b</code> &lt;i&gt;</h1>"), "{page}");
        assert!(
            page.contains("<ol>\n<li>one</li>") && page.contains("<summary><code>d</code> &lt;e&gt;</summary><pre lang=\"en\">"),
            "{page}"
        );
        assert!(
            page.contains(
                "<th scope=\"row\" role=\"rowheader\">a|b</th><td role=\"cell\" data-name=\"&quot;i\"><code>c</code></td>"
            ),
            "{page}"
        );
        assert!(page.contains("<li>a\u{a0}: <code>b :</code>\u{a0}; c</li>"), "{page}");
        assert!(!page.contains("<script>") && page.contains("<li>*x* [y](z) `c</li>"), "{page}");
    }
}
