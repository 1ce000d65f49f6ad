//! The ledger's commands and the settings of a server, as a user gives them.

use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::daemon::{Daemon, daybook, run, said};

/// Runs `daybook …`: whether it succeeded, and all that it said.
fn told(arguments: &[&str]) -> (bool, String) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), format!("{text}{}", said(&output)))
}

#[test]
fn money_is_moved_and_looked_at_from_the_command_line() {
    let data = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    let ask = |arguments: &[&str]| -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--json", "--url", &url]);
        let output = run(&all);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let open = ["accounts", "open", "--type", "checking", "--currency", "USD"];
    let opened = |deposit: &str| -> String {
        let mut arguments = open.to_vec();
        arguments.extend(["--deposit", deposit]);
        ask(&arguments)["account_id"].as_str().expect("an id").to_owned()
    };
    let (ada, ben) = (opened("100.00"), opened("20.00"));
    // A repeated command is one deposit.
    let key = "11111111-1111-4111-8111-111111111111";
    for _ in 0..2 {
        ask(&["accounts", "deposit", &ada, "5.50", "USD", "--key", key]);
    }
    let made = ask(&["transfers", "make", &ada, &ben, "25.00", "USD", "--description", "Rent"]);
    let transfer = made["transfer_id"].as_str().expect("an id");
    assert_eq!(ask(&["transfers", "show", transfer])["state"], "completed");
    assert_eq!(ask(&["accounts", "show", &ada])["balance"], "80.50");
    assert_eq!(ask(&["accounts", "show", &ben])["balance"], "45.00");
    // A list goes over pages; one that is cut says so.
    assert_eq!(ask(&["accounts", "list", "-n", "1"])["more"], true);
    let all = ask(&["accounts"]);
    assert_eq!((all["accounts"].as_array().map(Vec::len), &all["more"]), (Some(2), &false.into()));
    let history = ask(&["accounts", "history", &ada]);
    let amounts: Vec<&str> = history["transactions"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["amount"].as_str().expect("an amount"))
        .collect();
    assert_eq!(amounts, ["100.00", "5.50", "-25.00"]);
    assert_eq!(ask(&["sagas"])["sagas"], Value::Array(Vec::new()));
    // What the rules forbid is told in the server's words, and exits with 1.
    ask(&["risk", "set", "--maximum", "USD=10.00", "--by", "ada"]);
    assert_eq!(ask(&["risk"])["maximum_amount"]["USD"], "10.00");
    ask(&["accounts", "freeze", &ben, "--reason", "lost card", "--by", "ada"]);
    let (done, text) = told(&["accounts", "withdraw", &ben, "1.00", "USD", "--url", &url]);
    assert!(!done && text.contains("frozen"), "{text}");
    let (done, text) = told(&["accounts", "--url", &url]);
    assert!(done && text.contains("frozen") && text.contains(&ada), "{text}");
    assert!(daemon.terminate().0.success());
}

#[test]
fn a_server_is_set_up_by_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store");
    let file = directory.path().join("daybook.toml");
    let settings =
        format!("[serve]\ndata = '{}'\nlisten = '127.0.0.1:0'\nthreads = 1\n", data.display());
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&file, settings).expect("written");
    let config = file.to_str().expect("a text");
    let command = daybook(&["--settings", config, "serve"]);
    let patience = std::time::Duration::from_secs(30);
    let daemon = Daemon::spawn(command, patience).expect("it starts");
    assert!(data.is_dir(), "the file says where the data is");
    assert!(daemon.terminate().0.success());

    let shown = run(&["--settings", config, "config", "show", "--json", "serve", "--threads", "2"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["threads"]["from"], "flag");
    assert_eq!(shown["listen"]["value"], "127.0.0.1:0");
    assert_eq!(shown["listen"]["from"], config);
    assert_eq!(shown["scavenge"]["from"], "default");

    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&file, "[serve]\nlisen = 'x'\n").expect("written");
    let refused = run(&["--settings", config, "serve"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("perhaps 'listen'"), "{}", said(&refused));
}

#[test]
fn whoever_started_it_hears_when_it_is_ready_and_when_it_stops() {
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let hear = || {
        let mut heard = [0; 64];
        let len = socket.recv(&mut heard).expect("a word");
        String::from_utf8_lossy(&heard[..len]).into_owned()
    };
    let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data.path().join("data")).env("NOTIFY_SOCKET", &path);
    let daemon = Daemon::spawn(command, PATIENCE).expect("a server");
    assert_eq!(hear(), "READY=1\n");
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(hear(), "STOPPING=1\n");
}

#[test]
fn every_shell_that_is_offered_gets_a_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (done, script) = told(&["completions", shell]);
        assert!(done && script.contains("scavenge"), "{shell}: {script}");
    }
}
