//! The archive that the host's apt sources name.

use std::process::Command;

/// Returns the addresses of the archive and of its security archive.
pub fn addresses() -> (String, String) {
    let format = ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"];
    let output = Command::new("apt-get").args(format).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut main, mut security) = (None, None);
    for line in text.lines() {
        let Some((address, suite)) = line.split_once(' ') else { continue };
        let slot = if suite.ends_with("-security") { &mut security } else { &mut main };
        if address.starts_with("http") && slot.is_none() {
            *slot = Some(address.trim_end_matches('/').to_owned());
        }
    }
    (main.expect("the host's apt sources name an archive"), security.expect("the host's apt sources name a security archive"))
}
