//! `daybook config` and `daybook completions`: what can be set, and what is.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Subcommand};
use clap_complete::Shell;
use serde_json::{Value, json};

use super::PROGRAM;
use super::report::{Json, escaped, print, table};
use super::settings::{self, SETTINGS_FLAG, Told, is_setting};
use crate::config::Setting;

/// The command whose settings are shown unless another is named.
const COMMAND_DEFAULT: &str = "serve";
/// Stands for a value that may hold a password.
const NOT_SHOWN: &str = "(not shown)";
/// Columns of a comment in an example.
const COMMENT_WIDTH: usize = 96;

/// What can be set, what is set, and by whom.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show what a command would run with, and where each setting comes from
    #[command(
        after_help = "Example: daybook --settings daybook.toml config show serve --threads 4"
    )]
    Show(ShowArgs),
    /// Print a settings file with every setting of a command, its meaning and its default
    #[command(after_help = "Example: daybook config example > daybook.toml")]
    Example(ExampleArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    json: Json,

    /// The command and its flags, as they would be given [default: serve]
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
struct ExampleArgs {
    /// The command, a word for each level
    #[arg(value_name = "COMMAND", default_value = COMMAND_DEFAULT)]
    path: Vec<String>,
}

/// Prints a script that completes this program's arguments in a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: source <(daybook completions bash)")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Shows settings; `file` is the settings file that was named, if any.
///
/// # Errors
/// If the command or the settings are not valid.
pub fn run(args: ConfigArgs, file: Option<&std::path::Path>) -> anyhow::Result<ExitCode> {
    match args.command {
        ConfigCommand::Show(args) => show(args, file),
        ConfigCommand::Example(args) => {
            print(&example(&args.path)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the script.
///
/// # Errors
/// If it cannot be written.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), PROGRAM, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: ShowArgs, file: Option<&std::path::Path>) -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<OsString> = vec![PROGRAM.into()];
    if let Some(file) = file {
        arguments.extend([format!("--{SETTINGS_FLAG}").into(), file.into()]);
    }
    if args.arguments.is_empty() {
        arguments.push(COMMAND_DEFAULT.into());
    }
    arguments.extend(args.arguments);
    let told = match settings::parse(&super::command(), arguments)? {
        Ok(told) => told,
        Err(error) => bail!(error.to_string().trim_start_matches("error: ").trim_end().to_owned()),
    };
    let rows = effective(&told);
    let mut shown = table(&["setting", "value", "from"]);
    let mut value = serde_json::Map::new();
    for row in &rows {
        shown.add_row([
            row.name.clone(),
            escaped(row.value.as_deref().unwrap_or("-")),
            row.from.clone(),
        ]);
        value.insert(row.name.clone(), json!({ "value": row.value, "from": row.from }));
    }
    args.json.answer(&Value::Object(value), &format!("{shown}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Every setting of the command that is run, as it is in force.
pub fn effective(told: &Told) -> Vec<Setting> {
    let mut command = super::command();
    command.build();
    let (mut command, mut matches) = (&command, &told.matches);
    while let Some((name, inner)) = matches.subcommand() {
        let Some(subcommand) = command.find_subcommand(name) else { break };
        (command, matches) = (subcommand, inner);
    }
    let settings = command.get_arguments().filter(|argument| is_setting(argument));
    settings.map(|argument| one(told, matches, argument)).collect()
}

fn one(told: &Told, matches: &ArgMatches, argument: &Arg) -> Setting {
    let id = argument.get_id().as_str();
    let name = argument.get_long().unwrap_or_default().to_owned();
    let values = matches.get_raw(id).map_or_else(Vec::new, |values| {
        values.map(|value| value.to_string_lossy().into_owned()).collect()
    });
    let from = match (matches.value_source(id), &told.file) {
        (Some(ValueSource::CommandLine), Some(file)) if told.from_file.contains(&name) => {
            file.display().to_string()
        }
        (Some(ValueSource::CommandLine), _) => "flag".to_owned(),
        (Some(ValueSource::EnvVariable), _) => argument
            .get_env()
            .map_or_else(|| "environment".to_owned(), |name| name.to_string_lossy().into_owned()),
        _ => "default".to_owned(),
    };
    let value = match values.as_slice() {
        [] => None,
        _ if argument.is_hide_env_values_set() && from != "default" => Some(NOT_SHOWN.to_owned()),
        values => Some(values.join(", ")),
    };
    Setting { name, value, from }
}

/// A settings file in which everything is said and nothing is set.
fn example(path: &[String]) -> anyhow::Result<String> {
    let mut root = super::command();
    root.build();
    let mut command = &root;
    for name in path {
        command = match command.find_subcommand(name) {
            Some(inner) => inner,
            None => bail!("there is no command '{name}'; see daybook --help"),
        };
    }
    let mut text = format!(
        "# Settings of daybook {}: daybook --settings THIS_FILE {0}\n# A flag or an environment \
         variable outranks what stands here; a line that begins with # is the default.\n\n",
        path.join(" ")
    );
    let globals = root.get_arguments().filter(|argument| is_setting(argument));
    globals.for_each(|argument| describe(&mut text, argument));
    let _ = writeln!(text, "[{}]\n", path.join("."));
    let own = command.get_arguments().filter(|argument| is_setting(argument));
    let own = own.filter(|argument| root_has(&root, argument).is_none());
    own.for_each(|argument| describe(&mut text, argument));
    Ok(text)
}

fn root_has<'a>(root: &'a Command, argument: &Arg) -> Option<&'a Arg> {
    root.get_arguments().find(|other| other.get_id() == argument.get_id())
}

fn describe(text: &mut String, argument: &Arg) {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let mut line = String::from("#");
    for word in help.split_whitespace() {
        if line.len() + word.len() >= COMMENT_WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
    let choices: Vec<String> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !choices.is_empty() && argument.get_action().takes_values() {
        let _ = writeln!(text, "# One of: {}", choices.join(", "));
    }
    if let Some(name) = argument.get_env() {
        let _ = writeln!(text, "# Environment: {}", name.to_string_lossy());
    }
    let key = argument.get_long().unwrap_or_default();
    let default = argument.get_default_values().first();
    let default = default.map(|value| value.to_string_lossy().into_owned());
    let value = match default {
        _ if !argument.get_action().takes_values() => "false".to_owned(),
        Some(value) if value.parse::<i64>().is_ok() => value,
        Some(value) => Value::String(value).to_string(),
        None => {
            let names = argument.get_value_names().unwrap_or_default();
            format!("\"<{}>\"", names.first().map_or("VALUE", |name| name.as_str()))
        }
    };
    let _ = writeln!(text, "#{key} = {value}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_settings_file_that_changes_nothing() {
        for path in [vec!["serve"], vec!["projections", "run"], vec!["backup"]] {
            let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
            let text = example(&path).expect("a command");
            let table: toml::Table = text.parse().expect("TOML");
            let mut settings = &table;
            for name in &path {
                settings = settings[name].as_table().expect("a table a command");
            }
            assert!(settings.is_empty(), "{text}");
        }
        assert!(example(&["sserve".to_owned()]).is_err());
    }
}
