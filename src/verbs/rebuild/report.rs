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
    Table(Vec<String>, Vec<Vec<String>>),
    /// What a changelog says, as it was written.
    Quote(String),
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
            Part::Table(head, rows) => {
                let row = |cells: &[String]| {
                    let cells: Vec<String> = cells.iter().map(|cell| plain(cell).replace('|', "\\|")).collect();
                    format!("| {} |", cells.join(" | "))
                };
                let rule: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
                [row(head), row(&rule)].into_iter().chain(rows.iter().map(|cells| row(cells))).collect::<Vec<_>>().join("\n")
            }
            // Four blanks: nothing in a changelog is then read as Markdown.
            Part::Quote(text) => {
                text.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
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

fn page(parts: &[Part], language: Language) -> String {
    let title = parts.iter().find_map(|part| if let Part::Title(text) = part { Some(escaped(text)) } else { None });
    let title = title.unwrap_or_default();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>body{{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}\
         table{{border-collapse:collapse}}td,th{{border:1px solid #888;padding:.3em .6em;text-align:left}}\
         pre{{background:#f4f4f4;padding:.8em;overflow-x:auto}}</style>\n</head>\n<body>\n",
        language.code()
    );
    for part in parts {
        let text = match part {
            Part::Title(text) => format!("<h1>{}</h1>", coded(text)),
            Part::Heading(text) => format!("<h2>{}</h2>", coded(text)),
            Part::Text(text) => format!("<p>{}</p>", coded(text)),
            Part::List(items) => {
                let items: String = items.iter().map(|item| format!("<li>{}</li>\n", coded(item))).collect();
                format!("<ul>\n{items}</ul>")
            }
            Part::Table(head, rows) => {
                let row = |tag: &str, cells: &[String]| {
                    let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", coded(cell))).collect();
                    format!("<tr>{cells}</tr>\n")
                };
                let rows: String = rows.iter().map(|cells| row("td", cells)).collect();
                format!("<table>\n{}{rows}</table>", row("th", head))
            }
            Part::Quote(text) => format!("<pre>{}</pre>", escaped(text)),
        };
        out.push_str(&text);
        out.push('\n');
    }
    out.push_str("</body>\n</html>\n");
    out
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
            _ => out.push_str(part),
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
            Part::List(vec!["*x* [y](z) `c".into()]),
            Part::Table(vec!["h".into()], vec![vec!["a|b".into()]]),
            Part::Quote("  * <script>\n# no heading\n".into()),
        ];
        let text = markdown(&parts);
        assert_eq!(
            text,
            "# A `b` \\<i\\>\n\n- \\*x\\* \\[y\\](z) `c\n\n| h |\n| --- |\n| a\\|b |\n\n      * <script>\n    # no heading\n"
        );
        let page = page(&parts, Language::French);
        assert!(page.contains("<html lang=\"fr\">") && page.contains("<h1>A <code>b</code> &lt;i&gt;</h1>"), "{page}");
        assert!(!page.contains("<script>") && page.contains("<li>*x* [y](z) `c</li>"), "{page}");
    }
}
