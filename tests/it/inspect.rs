//! `parvis inspect`: one image, as it is built, as a layout and as an archive.

use serde_json::{Value, json};

use crate::kit::project::Project;
use crate::kit::world;

#[test]
fn an_image_is_described_the_same_wherever_it_lies_and_more_is_known_of_one_of_the_project() {
    let repo = world::archive();
    let project = Project::sample(&repo);
    project.run(&["lock"], 0);
    project.run(&["build"], 0);
    let saved = project.path().with_file_name("saved.tar").to_str().unwrap().to_owned();
    project.run(&["save", "app", "--output", &saved], 0);
    let layout = format!("{}:app", project.path().join("out").display());
    let describe = |image: &str| -> Value {
        let document: Value = serde_json::from_str(&project.run(&["inspect", "--json", image], 0).out).unwrap();
        assert_eq!(document["format"], 1);
        document
    };
    let [built, folder, archive] = ["app", &layout, &saved].map(describe);
    for key in
        ["platform", "download", "manifest", "configuration", "config", "accounts", "files", "unpacked", "layers", "powerful"]
    {
        assert!(!built[key].is_null(), "{key}");
        assert_eq!(built[key], folder[key], "{key}");
        assert_eq!(built[key], archive[key], "{key}");
    }
    assert_eq!(built["config"]["command"], json!(["/usr/bin/app", "hello"]));
    assert!(built["accounts"].as_array().unwrap().contains(&json!({"name": "paroisse", "uid": 1001})));
    let package = |document: &Value, name: &str| {
        let packages = document["packages"].as_array().unwrap().clone();
        packages.into_iter().find(|package| package["name"] == name).unwrap_or_else(|| panic!("`{name}` is missing"))
    };
    let (known, foreign) = (package(&built, "app"), package(&archive, "app"));
    assert_eq!((&known["version"], &known["size"]), (&foreign["version"], &foreign["size"]));
    assert_eq!((&known["from"]["image"], &known["from"]["asked"]), (&json!("app"), &json!("recipes/app.yaml:5")));
    assert_eq!(package(&built, "libfoo")["from"]["asked"], "recipes/base.yaml:3");
    assert_eq!(foreign["from"], Value::Null);
    assert_eq!((&built["referrers"], &folder["referrers"]), (&Value::Null, &json!([])));

    let said = project.run(&["inspect", "app", "--all"], 0).out;
    for line in ["user         paroisse\n", "recipes/app.yaml:5", "no file is setuid or setgid", "sha256:"] {
        assert!(said.contains(line), "`{line}` is missing:\n{said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    let said = project.run(&["inspect", "absent"], 2);
    assert!(said.err.contains("`absent` is no image of the project") && said.err.contains("hint: "), "{}", said.err);
}
