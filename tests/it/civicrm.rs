//! The profile `civicrm` from a mirror of stand-ins: the real Composer and the images' own scripts, and nothing of Drupal or CiviCRM.
//!
//! What the stand-ins are and refuse stands in `civicrm/`; Debian's packages come from the host's mirror.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::kit::badhttp::Server;
use crate::kit::project::Said;

const FILES: &str = "images/composer_files/civicrm";

/// This repository's project with another mirror, and a store that outlives one mirror.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("civicrm-").tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["parvis.yaml", "parvis.lock", "recipes", "images", "keys"].map(|name| here.join(name));
        assert!(Command::new("cp").arg("-r").args(sources).arg(folder.path()).status().unwrap().success());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a mirror in a folder of this place, and forgets what was chosen from another.
    fn mirror(&self, name: &str, address: &str, options: &[&str]) {
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/civicrm/mirror.py");
        let status = Command::new("python3").arg(make).arg(self.path(name)).arg(address).args(options).status().unwrap();
        assert!(status.success());
        let project = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("parvis.yaml")).unwrap();
        let (before, after) = project.split_once("        - url: ").unwrap();
        let after = after.split_once('\n').unwrap().1;
        fs::write(self.path("parvis.yaml"), format!("{before}        - url: {address}\n{after}")).unwrap();
        let _ = fs::remove_file(self.path(&format!("{FILES}/composer.lock")));
    }

    fn run(&self, arguments: &[&str], code: i32) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_parvis"))
            .args(["--project", self.folder.path().to_str().unwrap(), "--store", self.path("store").to_str().unwrap()])
            .args(["--profile", "civicrm"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = Said::from(&output);
        assert_eq!(output.status.code(), Some(code), "parvis {}\n{}{}", arguments.join(" "), said.out, said.err);
        said
    }

    /// Returns a file of the application as the build made it.
    fn made(&self, path: &str) -> String {
        self.run(&["run", "tools", "--", "cat", &format!("/app/{path}")], 0).out
    }
}

#[test]
fn the_profile_civicrm_is_locked_built_and_tried_from_a_mirror_of_either_form() {
    let place = Place::new();
    fs::create_dir(place.path("near")).unwrap();
    let server = Server::honest(place.path("near"));
    place.mirror("near", &server.url(), &[]);
    place.run(&["lock", "--update"], 0);
    let lock = fs::read_to_string(place.path("parvis.lock")).unwrap();
    let section = lock.split_once("project = \"civicrm\"").unwrap().1;
    let count = |kind: &str| section.matches(&format!("kind = \"{kind}\"")).count();
    assert_eq!((count("dist"), count("download"), count("patch")), (15, 3, 1));
    place.run(&["lock", "--check"], 0);
    let images = ["composer_files", "tools", "init", "update", "cron"];
    place.run(&[&["build", "--trees"], &images[..]].concat(), 0);
    let tests = place.run(&[&["test"], &images[..]].concat(), 0).out;
    assert!(tests.contains(" passed, 0 failed"), "{tests}");
    // What each plugin is there for, with no network.
    assert!(place.made("vendor/pear/db/DB.php").contains("'yes'"), "patched");
    assert_eq!(place.made("web/libraries/civicrm/core/css/civicrm.css"), "/* compiled */ /* styles */\n");
    assert!(place.made("web/libraries/civicrm/core/bower_components/jquery/dist/jquery.js").contains("a library"));
    assert!(place.made("web/modules/contrib/civicrm/civicrm.info.yml").contains("CiviCRM"));
    assert!(place.made("vendor/composer/autoload_files.php").contains("'/composer/autoload_civicrm_asset.php'"));
    drop(server);

    // The other form, in a folder of this machine, with paths for addresses and without checksums.
    let far = format!("file://{}", place.path("far").display());
    place.mirror("far", &far, &["--form", "v1", "--relative", "--no-checksum", "--tar"]);
    place.run(&["lock"], 0);
    let chosen = fs::read_to_string(place.path(&format!("{FILES}/composer.lock"))).unwrap();
    assert!(chosen.contains(&format!("{far}/files/pear_db.patch")) && !chosen.contains(".invalid"), "{chosen}");
    place.run(&["build", "--trees", "tools"], 0);
    assert!(place.made("vendor/pear/db/DB.php").contains("'yes'"));

    // What is asked for by exact version and is not there.
    place.mirror("other", &format!("file://{}", place.path("other").display()), &["--only", "drush/drush=13.6.0"]);
    let said = place.run(&["lock"], 2);
    let expected =
        format!("`{FILES}/composer.json` asks for what no repository has:\n  drush/drush 13.7.2: there is 13.6.0\nhint: ");
    assert!(said.err.contains(&expected), "{}", said.err);
    assert!(!place.path(&format!("{FILES}/composer.lock")).exists());
}
