//! `daybook tokens`: by which machines call a server.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use daybook_model::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::remote::{Remote, accepted, percent_encode};
use super::report::{Json, escaped, facts, table};
use crate::http::tokens::end_of;
use crate::users::api_tokens::secret::id_in;

/// Bytes of an answer: a page of tokens, each with a hundred groups, as long as they may be.
const ANSWER_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Makes API tokens for machines, and ends them.
#[derive(Debug, Args)]
pub struct TokensArgs {
    #[command(subcommand)]
    command: Option<TokensCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Show those that there are, one's own or, for administrators, all (the default)
    List(ListArgs),
    /// Make one; it is shown once
    Create(CreateArgs),
    /// End one, from now on
    Revoke(RevokeArgs),
}

#[derive(Debug, Default, Args)]
struct ListArgs {
    /// Only those of this user
    #[arg(value_name = "LOGIN")]
    login: Option<String>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What it is for, as 'nightly export'
    name: String,

    /// Whose it will be [default: one's own]
    #[arg(long = "for", value_name = "LOGIN")]
    login: Option<String>,

    /// A group of the user that the token has; may be given more than once [default: all, whatever
    /// they are]
    #[arg(long = "group", value_name = "GROUP", conflicts_with = "no_groups")]
    groups: Vec<String>,

    /// None of the user's groups
    #[arg(long)]
    no_groups: bool,

    /// How long it is good for, up to a year [default: 90 days]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// By which the list calls it; or the token itself, which is not sent
    id: String,
}

/// Asks the server.
///
/// # Errors
/// If it cannot be asked, or refuses.
pub fn run(args: TokensArgs) -> anyhow::Result<ExitCode> {
    let TokensArgs { command, remote, json } = args;
    super::runtime(Some(1))?.block_on(async {
        match command.unwrap_or_else(|| TokensCommand::List(ListArgs::default())) {
            TokensCommand::List(args) => list(&remote, args.login.as_deref(), &json).await?,
            TokensCommand::Create(args) => create(&remote, args, &json).await?,
            TokensCommand::Revoke(RevokeArgs { id }) => {
                json.answer(&revoke(&remote, &id).await?, "revoked\n")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn ask(remote: &Remote, method: &str, path: &str, body: Bytes) -> anyhow::Result<Value> {
    let answer = remote.begin(method, path, body).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
    accepted(status, &body.to_bytes())
}

/// All tokens, or those of one user.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub async fn of(remote: &Remote, login: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let given = [("user", login), ("cursor", cursor.as_deref())];
        let given = given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        let query: String =
            given.map(|(name, value)| format!("&{name}={}", percent_encode(value))).collect();
        let page = remote.get(&format!("/v1/tokens?limit=1000{query}")).await?;
        all.extend(page["tokens"].as_array().into_iter().flatten().cloned());
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// Ends all tokens of a user; how many there were.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub async fn revoke_all(remote: &Remote, login: &str) -> anyhow::Result<usize> {
    let all = of(remote, Some(login)).await?;
    for token in &all {
        let id = token["id"].as_str().unwrap_or_default();
        revoke(remote, id).await?;
    }
    Ok(all.len())
}

async fn revoke(remote: &Remote, id: &str) -> anyhow::Result<Value> {
    // A token that is given for its id is a secret: it does not leave this machine for that.
    let path = format!("/v1/tokens/{}", percent_encode(&id_in(id)));
    ask(remote, "DELETE", &path, Bytes::new()).await
}

async fn list(remote: &Remote, login: Option<&str>, to: &Json) -> anyhow::Result<()> {
    let all = of(remote, login).await?;
    let mut rows = table(&["id", "user", "name", "groups", "expires"]);
    for token in &all {
        let text = |name: &str| escaped(token[name].as_str().unwrap_or_default());
        let id = text("id");
        rows.add_row([id, text("user"), text("name"), groups(token), text("expires")]);
    }
    to.answer(&Value::Array(all), &format!("{rows}\n"))
}

async fn create(remote: &Remote, args: CreateArgs, to: &Json) -> anyhow::Result<()> {
    let CreateArgs { name, login, groups: named, no_groups, expires_in } = args;
    let mut body = json!({ "name": name });
    if let Some(login) = login {
        body["user"] = login.into();
    }
    if no_groups || !named.is_empty() {
        body["groups"] = named.into();
    }
    if let Some(life) = expires_in {
        body["expires"] = end_of(SystemClock::new().now(), life).into();
    }
    let made = ask(remote, "POST", "/v1/tokens", Bytes::from(body.to_string())).await?;
    let text = |name: &str| escaped(made[name].as_str().unwrap_or_default());
    let rows = [
        ("id", text("id")),
        ("user", text("user")),
        ("groups", groups(&made)),
        ("expires", text("expires")),
        ("token", text("token")),
    ];
    let said = "\nNobody can show the token again: keep it where the machine finds it.\n";
    to.answer(&made, &format!("{}{said}", facts(&rows)))
}

fn groups(token: &Value) -> String {
    match token["groups"].as_array() {
        None => "all of the user".to_owned(),
        Some(groups) if groups.is_empty() => "none".to_owned(),
        Some(groups) => {
            let groups: Vec<&str> = groups.iter().filter_map(Value::as_str).collect();
            escaped(&groups.join(", "))
        }
    }
}
