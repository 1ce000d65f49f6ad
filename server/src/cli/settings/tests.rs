use std::path::PathBuf;

use clap::{Arg, ArgAction, value_parser};

use super::*;

fn program() -> Command {
    Command::new("p")
        .arg(
            Arg::new("settings").long("settings").global(true).value_parser(value_parser!(PathBuf)),
        )
        .arg(Arg::new("log").long("log").global(true).default_value("info"))
        .subcommand(
            Command::new("serve")
                .arg(Arg::new("listen").long("listen").default_value("here"))
                .arg(Arg::new("threads").long("threads").value_parser(value_parser!(u8)))
                .arg(Arg::new("insecure").long("insecure").action(ArgAction::SetTrue))
                // A variable that every test's process has.
                .arg(Arg::new("path").long("path").env("PATH"))
                .arg(Arg::new("key").long("key").requires("cert"))
                .arg(Arg::new("cert").long("cert"))
                .arg(Arg::new("peer").long("peer").action(ArgAction::Append))
                .arg(Arg::new("words").num_args(0..)),
        )
        .subcommand(
            Command::new("views").subcommand(Command::new("run").arg(Arg::new("as").long("as"))),
        )
}

/// What `arguments` and a file with `text` say together.
fn told(text: &str, arguments: &str) -> Result<Told, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("p.toml");
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&file, text).expect("written");
    let arguments = ["p", "--settings", file.to_str().expect("a text")]
        .into_iter()
        .chain(arguments.split_whitespace())
        .map(OsString::from)
        .collect();
    match parse(&program(), arguments) {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(error)) => Err(format!("arguments: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn value(told: &Told, name: &str) -> Option<String> {
    let mut matches = &told.matches;
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches.get_raw(name).map(|values| {
        values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",")
    })
}

#[test]
fn a_flag_outranks_the_environment_which_outranks_the_file_which_outranks_the_default() {
    let file = "log = 'debug'\n[serve]\nlisten = 'there'\npath = 'file'\nthreads = 3\n";
    let found = told(file, "serve --threads 5").expect("valid");
    assert_eq!(value(&found, "log").as_deref(), Some("debug"));
    assert_eq!(value(&found, "listen").as_deref(), Some("there"));
    assert_eq!(value(&found, "threads").as_deref(), Some("5"));
    assert_eq!(value(&found, "path"), std::env::var("PATH").ok());
    assert_eq!(found.from_file, ["log", "listen"]);
    let found = told("", "serve").expect("valid");
    assert_eq!(value(&found, "listen").as_deref(), Some("here"));
}

#[test]
fn values_of_every_kind_are_taken() {
    let file = "[serve]\ninsecure = true\npeer = ['a', 'b']\n[views.run]\nas = 'x'\n";
    let found = told(file, "serve -- --word").expect("valid");
    assert_eq!(value(&found, "peer").as_deref(), Some("a,b"));
    assert_eq!(value(&found, "insecure").as_deref(), Some("true"));
    assert_eq!(value(&found, "words").as_deref(), Some("--word"));
    let found = told(file, "views run").expect("valid");
    assert_eq!(value(&found, "as").as_deref(), Some("x"));
    let found = told("[serve]\ninsecure = false\n", "serve").expect("valid");
    assert_eq!(found.from_file, Vec::<String>::new());
}

#[test]
fn what_means_nothing_is_refused_and_the_nearest_is_named() {
    for (file, part) in [
        ("[serve]\nlisten_on = 'x'", "[serve] has no 'listen_on'; perhaps 'listen'"),
        ("[serv]\nlisten = 'x'", "it has no 'serv'; perhaps 'serve'"),
        ("listen = 'x'", "it has no 'listen'"),
        ("[views]\nas = 'x'", "[views] has no 'as'"),
        ("[serve]\nsettings = 'x'", "[serve] has no 'settings'"),
        ("[serve]\nwords = 'x'", "[serve] has no 'words'"),
        ("[serve]\nthreads = 'many'", "'many'"),
        ("[serve]\nkey = 'k'", "--cert"),
        ("[serve]\ninsecure = 'yes'", "true or false"),
        ("[serve]\nlisten = ['a']", "one text or number"),
        ("[serve]\npeer = [['a']]", "a list of texts"),
        ("[serve", "not TOML"),
    ] {
        let refused = told(file, "serve").err().unwrap_or_default();
        assert!(refused.contains(part), "{file}: {refused}");
        assert!(refused.contains("p.toml"), "{file}: {refused}");
    }
    // Another command's mistake is one, too.
    let refused = told("[views.run]\nass = 'x'", "serve").err().unwrap_or_default();
    assert!(refused.contains("[views.run] has no 'ass'; perhaps 'as'"), "{refused}");
}

#[test]
fn what_is_wrong_with_the_arguments_is_not_blamed_on_the_file() {
    let refused = told("[serve]\nlisten = 'x'", "serve --threads many").err().unwrap_or_default();
    assert!(refused.starts_with("arguments: "), "{refused}");
    let missing = parse(
        &program(),
        ["p", "--settings", "/nowhere/p.toml", "serve"].map(OsString::from).into(),
    );
    assert!(matches!(missing, Err(SettingsError::Unreadable { .. })));
}
