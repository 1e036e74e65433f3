//! A real browser (Chromium), driven as `WebDriver` has it: <https://www.w3.org/TR/webdriver2/>.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::daemon::Docker;

/// The key under which an element's reference stands (`WebDriver`, "Elements").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The driver's port, in a network where nobody else listens.
const ADDRESS: &str = "http://127.0.0.1:9515";

/// A window of the browser in a daemon's network.
pub struct Browser<'a> {
    docker: &'a Docker,
    driver: Child,
    session: String,
}

impl<'a> Browser<'a> {
    /// Opens a window; `None` where the machine has no Chromium or no driver of it.
    pub fn open(docker: &'a Docker) -> Option<Self> {
        let is_there =
            |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !is_there("chromium") || !is_there("chromedriver") {
            return None;
        }
        let home = docker.home();
        let mut driver = docker.beside("chromedriver", &["--port=9515"]);
        // What it and the browser leave behind stays in a folder of the test.
        driver.env("HOME", &home).env("TMPDIR", &home).stdout(Stdio::null()).stderr(Stdio::null());
        let mut browser = Self { docker, driver: driver.spawn().unwrap(), session: String::new() };
        let begun = Instant::now();
        while !docker.beside("curl", &["--silent", &format!("{ADDRESS}/status")]).output().unwrap().status.success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(200));
        }
        // No sandbox, for this is root; no certificate of an authority that the browser knows, for the demo makes its own.
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,800"]});
        let wanted = json!({"capabilities": {"alwaysMatch": {"acceptInsecureCerts": true, "goog:chromeOptions": options}}});
        let session = browser.post("/session", &wanted);
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(path, &["--data", &body.to_string()])
    }

    fn get(&self, path: &str) -> Value {
        self.ask(path, &[])
    }

    fn ask(&self, path: &str, more: &[&str]) -> Value {
        let address = format!("{ADDRESS}{}{path}", self.session);
        let said = self.docker.shell("curl", &[&["--silent", "--max-time", "90"], more, &[&*address]].concat());
        let mut said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path}: {error}: {said}"));
        assert!(said["value"]["error"].is_null(), "{path} {more:?}: {said}");
        said["value"].take()
    }

    /// Goes to a page, and waits until it is there.
    pub fn visit(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    pub fn write(&self, selector: &str, text: &str) {
        self.post(&format!("{}/value", self.element(selector)), &json!({"text": text}));
    }

    pub fn click(&self, selector: &str) {
        self.post(&format!("{}/click", self.element(selector)), &json!({}));
    }

    /// Returns the text of the page as a person sees it.
    pub fn text(&self) -> String {
        self.get(&format!("{}/text", self.element("body"))).as_str().unwrap().to_owned()
    }

    /// Keeps a picture of the page in `target/screenshots`, for people.
    pub fn picture(&self, name: &str) {
        let picture = self.get("/screenshot");
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap()).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // The window first, for the driver leaves it behind.
        let address = format!("{ADDRESS}{}", self.session);
        let _ = self.docker.beside("curl", &["--silent", "--max-time", "20", "--request", "DELETE", &address]).output();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
