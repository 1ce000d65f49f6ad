//! `daybook users`: who may call a server.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use daybook_client::{NewUser, User, Users};
use serde_json::{Value, json};

use super::remote::{Remote, ask_password};
use super::report::{Json, escaped, facts, table};
use super::tokens;
use crate::http::event::rfc3339;
use crate::security::files::read_secret;
use crate::users::password::PASSWORD_SIZE_MAX;

/// Creates users and changes what is known of them.
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(subcommand)]
    command: Option<UsersCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Show all (the default)
    List,
    /// Show one
    Show(LoginArgs),
    /// Create one; the password is asked for, or read from standard input or a file
    Create(CreateArgs),
    /// Give one another password, whatever it was
    Passwd(PasswdArgs),
    /// Let one call again
    Enable(LoginArgs),
    /// Let one call no more, from now on
    Disable(LoginArgs),
    /// End one; another may be created by its login
    Delete(LoginArgs),
    /// Put one into these groups, and out of all others
    Groups(GroupsArgs),
}

#[derive(Debug, Args)]
struct LoginArgs {
    /// By which the user calls
    login: String,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// By which the user will call
    login: String,

    /// Its name, for people [default: the login]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// A group that it belongs to: $admins, $ops, or any other; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,

    #[command(flatten)]
    password: NewPassword,
}

#[derive(Debug, Args)]
struct PasswdArgs {
    /// By which the user calls
    login: String,

    #[command(flatten)]
    password: NewPassword,

    /// End its API tokens, too: whoever had the old password may have made one
    #[arg(long)]
    revoke_tokens: bool,
}

#[derive(Debug, Args)]
struct GroupsArgs {
    /// By which the user calls
    login: String,

    /// What it belongs to
    groups: Vec<String>,
}

/// Where a new password comes from.
#[derive(Debug, Args)]
struct NewPassword {
    /// The new password, in a file [default: asked for on a terminal, else standard input]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

impl NewPassword {
    fn read(&self) -> anyhow::Result<String> {
        if let Some(file) = &self.new_password_file {
            return Ok(read_secret("--new-password-file", file)?);
        }
        if !std::io::stdin().is_terminal() {
            let mut text = String::new();
            let limit = PASSWORD_SIZE_MAX as u64 + 2;
            std::io::stdin().take(limit).read_to_string(&mut text)?;
            let line = text.lines().next().filter(|line| !line.is_empty());
            return line.map(str::to_owned).context(
                "there is no password on standard input; write it there, or give \
                 --new-password-file",
            );
        }
        let asked = ask_password("New password: ")?;
        let Some(password) = asked.filter(|password| !password.is_empty()) else {
            bail!("there is no password; type one, or give --new-password-file");
        };
        if ask_password("Once more: ")?.as_ref() != Some(&password) {
            bail!("the two are not the same; try again");
        }
        Ok(password)
    }
}

/// Asks the server.
///
/// # Errors
/// If it cannot be asked, or refuses.
pub fn run(args: UsersArgs) -> anyhow::Result<ExitCode> {
    let UsersArgs { command, remote, json } = args;
    super::runtime(Some(1))?.block_on(async {
        let users = remote.client()?.users();
        match command.unwrap_or(UsersCommand::List) {
            UsersCommand::List => list(&users, &json).await?,
            UsersCommand::Show(of) => show(&users, &of.login, &json).await?,
            UsersCommand::Create(args) => create(&users, args, &json).await?,
            UsersCommand::Passwd(args) => reset(&users, &remote, &args, &json).await?,
            UsersCommand::Enable(of) => {
                users.enable(&of.login).await?;
                show(&users, &of.login, &json).await?;
            }
            UsersCommand::Disable(of) => {
                users.disable(&of.login).await?;
                show(&users, &of.login, &json).await?;
            }
            UsersCommand::Delete(of) => {
                users.delete(&of.login).await?;
                json.answer(&json!({ "deleted": true }), "deleted\n")?;
            }
            UsersCommand::Groups(args) => {
                let user = users.user(&args.login).await?;
                users.update(&args.login, &user.full_name, &args.groups).await?;
                show(&users, &args.login, &json).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn list(users: &Users, to: &Json) -> anyhow::Result<()> {
    let all = users.all().await?;
    let mut rows = table(&["login", "name", "groups", "may call"]);
    for user in &all {
        let may = if user.disabled { "no" } else { "yes" };
        let groups = escaped(&user.groups.join(", "));
        rows.add_row([escaped(&user.login), escaped(&user.full_name), groups, may.to_owned()]);
    }
    let value = Value::Array(all.iter().map(shown).collect());
    to.answer(&value, &format!("{rows}\n"))
}

async fn show(users: &Users, login: &str, to: &Json) -> anyhow::Result<()> {
    let user = users.user(login).await?;
    let mut rows = vec![
        ("login", escaped(&user.login)),
        ("name", escaped(&user.full_name)),
        ("groups", escaped(&user.groups.join(", "))),
        ("may call", if user.disabled { "no" } else { "yes" }.to_owned()),
    ];
    rows.extend(user.updated.map(|updated| ("changed", rfc3339(updated))));
    to.answer(&shown(&user), &facts(&rows))
}

async fn reset(users: &Users, remote: &Remote, args: &PasswdArgs, to: &Json) -> anyhow::Result<()> {
    users.reset_password(&args.login, &args.password.read()?).await?;
    let half = "the password is changed, and it is not known which API tokens go on";
    let revoked = match args.revoke_tokens {
        true => tokens::revoke_all(remote, &args.login).await.context(half)?,
        false => 0,
    };
    let left = tokens::of(remote, Some(&args.login)).await.context(half)?.len();
    let words = match (revoked, left) {
        (0, 0) => "the password is changed\n".to_owned(),
        (0, left) => format!(
            "the password is changed; API tokens that go on: {left}; --revoke-tokens ends them\n"
        ),
        (revoked, _) => {
            format!("the password is changed; API tokens that are revoked: {revoked}\n")
        }
    };
    to.answer(&json!({ "changed": true, "revoked": revoked, "tokens": left }), &words)
}

async fn create(users: &Users, args: CreateArgs, to: &Json) -> anyhow::Result<()> {
    let CreateArgs { login, name, groups, password } = args;
    let full_name = name.unwrap_or_else(|| login.clone());
    let password = password.read()?;
    users.create(NewUser { login: login.clone(), full_name, groups, password }).await?;
    show(users, &login, to).await
}

fn shown(user: &User) -> Value {
    json!({
        "login": user.login,
        "full_name": user.full_name,
        "groups": user.groups,
        "disabled": user.disabled,
        "updated": user.updated.map(rfc3339),
    })
}
