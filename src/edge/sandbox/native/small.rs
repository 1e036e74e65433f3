//! Programs of which maintainer scripts need only the answer that there is nothing to do.

use super::tree::Tree;
use super::{Call, Reply, name, path, word};

/// With nobody to listen, a message goes nowhere.
pub fn logger(tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let [priority_option, priority, tag_option, tag, message] = call.arguments else { return None };
    let (facility, level) = word(priority)?.split_once('.')?;
    let usual =
        facility == "daemon" && matches!(level, "debug" | "info" | "notice" | "warning" | "err" | "crit" | "alert" | "emerg");
    let options = priority_option == b"-p" && tag_option == b"-t" && word(tag).and_then(name).is_some();
    let plain = message.first().is_some_and(|first| *first != b'-') && !message.contains(&b'\n');
    (usual && options && plain && tree.is_absent("/dev/log")?).then(Reply::default)
}

/// A configuration file is removed or renamed only on the way from one version to another.
pub fn dpkg_maintscript_helper(_tree: &Tree, call: &Call<'_>) -> Option<Reply> {
    let files = match &**call.arguments.first()? {
        b"rm_conffile" => 1,
        b"mv_conffile" => 2,
        _ => return None,
    };
    let end = call.arguments.iter().position(|argument| argument == b"--")?;
    let (before, after) = (call.arguments.get(1..end)?, call.arguments.get(end + 1..)?);
    let (files, rest) = before.split_at_checked(files)?;
    let versions = match rest {
        [] => true,
        [version] => is_version(word(version)?),
        [version, package] => is_version(word(version)?) && name(&word(package)?.replace(':', "")).is_some(),
        _ => false,
    };
    let action = match call.variable("DPKG_MAINTSCRIPT_NAME")? {
        b"postinst" => b"configure".as_slice(),
        b"preinst" => b"install",
        _ => return None,
    };
    let first = matches!(after, [parameter] if parameter == action)
        || matches!(after, [parameter, old] if parameter == action && old.is_empty());
    let known = word(call.variable("DPKG_MAINTSCRIPT_PACKAGE")?).and_then(name).is_some();
    (versions && first && known && files.iter().all(|file| path(file).is_some())).then(Reply::default)
}

/// Says whether dpkg(1) takes this for a version (deb-version(7)), leaving out what is rare.
fn is_version(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    let digits = !epoch.is_empty() && epoch.len() < 6 && epoch.bytes().all(|byte| byte.is_ascii_digit());
    digits && upstream.starts_with(|first: char| first.is_ascii_digit()) && !rest.contains(':') && !revision.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_dpkg_takes() {
        for version in ["1.2.4~", "2023.4~~", "1:4.7-2~", "2.37-7~", "1.0-1-2"] {
            assert!(is_version(version), "{version}");
        }
        for odd in ["", "a1", ":1", "1:", "1-", "1:2:3", "x:1", "1234567:1"] {
            assert!(!is_version(odd), "{odd}");
        }
    }
}
