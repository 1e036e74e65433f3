//! What a platform lacks, as `composer check-platform-reqs --format=json` tells it.

use serde::Deserialize;

use crate::model::problem::shown;

#[derive(Deserialize)]
struct Row {
    name: String,
    version: String,
    status: String,
    #[serde(default)]
    failed_requirement: Option<Requirement>,
}

#[derive(Deserialize)]
struct Requirement {
    source: String,
    target: String,
    constraint: String,
}

/// Returns in words what is missing or of another version; `None` where the answer is not one.
#[must_use]
pub fn unmet(answer: &[u8]) -> Option<Vec<String>> {
    let rows: Vec<Row> = serde_json::from_slice(answer).ok()?;
    let line = |row: &Row| {
        let there = match row.status.as_str() {
            "success" => return None,
            "missing" => "which is missing".to_owned(),
            _ => format!("and {} is there", shown(&row.version)),
        };
        Some(match &row.failed_requirement {
            Some(Requirement { source, target, constraint }) => {
                format!("`{}` requires {} {}, {there}", shown(source), shown(target), shown(constraint))
            }
            None => format!("something requires {}, {there}", shown(&row.name)),
        })
    };
    Some(rows.iter().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unmet_is_told_with_who_requires_it() {
        let answer = br#"[
            {"name": "ext-json", "version": "8.4.1", "status": "success", "failed_requirement": null, "provider": null},
            {"name": "php", "version": "8.4.1", "status": "failed",
             "failed_requirement": {"source": "acme/old", "type": "requires", "target": "php", "constraint": "~8.1"}, "provider": null},
            {"name": "ext-redis", "version": "n/a", "status": "missing",
             "failed_requirement": {"source": "acme/cache", "type": "requires", "target": "ext-redis", "constraint": "*"}, "provider": null}]"#;
        let expected =
            ["`acme/old` requires php ~8.1, and 8.4.1 is there", "`acme/cache` requires ext-redis *, which is missing"];
        assert_eq!(unmet(answer).unwrap(), expected);
        assert_eq!(unmet(b"[]"), Some(Vec::new()));
        assert_eq!(unmet(b"PHP Fatal error"), None);
    }
}
