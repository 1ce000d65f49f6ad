//! What happens in the demo. Every step checks that the server did what the step tells.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Answered, Api, new_id, text};
use super::stage::{Mood, Stage, Step};
use crate::cli::load::verdict::check_trial_balance;

/// What a step wants done.
struct Wanted<'a> {
    title: &'a str,
    mood: Mood,
    method: &'static str,
    path: &'a str,
    key: Uuid,
    body: Value,
    status: u16,
    /// Where to look at what came of it; the path itself if it is empty.
    look: &'a str,
}

/// The people of the story.
struct People {
    ada: Uuid,
    ben: Uuid,
    chie: Uuid,
    mallory: Uuid,
}

/// Tells the story.
///
/// # Errors
/// If the server cannot be asked, or does something else than is told.
pub async fn tell(api: &mut Api, stage: &mut Stage) -> anyhow::Result<()> {
    let people = accounts(api, stage).await?;
    transfers(api, stage, &people).await?;
    let undone = risk(api, stage, &people).await?;
    hold(api, stage, &people).await?;
    freeze(api, stage, &people).await?;
    let named = [
        ("Ada", people.ada),
        ("Ben", people.ben),
        ("Chie", people.chie),
        ("Mallory", people.mallory),
    ];
    let mut shown = Vec::new();
    for (name, id) in named {
        shown.push((name, api.get(&format!("/v1/accounts/{id}")).await?));
    }
    stage.accounts(&shown)?;
    stage.timeline(&api.get(&format!("/v1/transfers/{undone}")).await?)?;
    let books = api.get("/v1/trial-balance?verify=true").await?;
    let check = serde_json::from_value(books.clone()).context("the trial balance is not whole")?;
    let check = check_trial_balance(&check);
    ensure!(check.passed(), "the books are not balanced: {:?}", check.findings.texts);
    stage.trial_balance(&books)
}

async fn act(
    api: &mut Api,
    stage: &mut Stage,
    wanted: Wanted<'_>,
    outcome: impl FnOnce(&Answered) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let Wanted { title, mood, method, path, key, body, status, look } = wanted;
    let answer = api.act(method, path, key, &body, status).await;
    let answer = answer.with_context(|| format!("the step '{title}' failed"))?;
    let outcome = outcome(&answer).with_context(|| format!("the step '{title}' went wrong"))?;
    let request = format!("{method} {path}");
    let look = if look.is_empty() { path } else { look };
    let step = Step { title, mood, outcome: &outcome, request: &request, status, look };
    stage.step(&step)
}

async fn open(
    api: &mut Api,
    stage: &mut Stage,
    title: &str,
    mut body: Value,
) -> anyhow::Result<Uuid> {
    let id = new_id();
    body["owner_id"] = new_id().to_string().into();
    let wanted = Wanted {
        title,
        mood: Mood::Done,
        method: "POST",
        path: "/v1/accounts",
        key: id,
        body,
        status: 201,
        look: &format!("/v1/accounts/{id}"),
    };
    act(api, stage, wanted, |answer| {
        ensure!(answer.text("account_id")? == id.to_string(), "another account was opened");
        let (balance, currency) = (answer.text("balance")?, answer.text("currency")?);
        let overdraft = answer.text("overdraft_limit")?;
        Ok(format!("balance {balance} {currency}, may be overdrawn by {overdraft}"))
    })
    .await?;
    Ok(id)
}

async fn accounts(api: &mut Api, stage: &mut Stage) -> anyhow::Result<People> {
    let checking = |currency: &str, deposit: &str| {
        json!({
            "account_type": "checking", "currency": currency, "initial_deposit": deposit
        })
    };
    let ada = "Ada opens a checking account with 1,000.00 USD";
    let ada = open(api, stage, ada, checking("USD", "1000.00")).await?;
    let savings = json!({
        "account_type": "savings", "currency": "USD", "initial_deposit": "500.00"
    });
    let ben = open(api, stage, "Ben opens a savings account with 500.00 USD", savings).await?;
    let chie = "Chie opens a checking account in yen, which has no cents";
    let body = json!({ "account_type": "checking", "currency": "JPY" });
    let chie = open(api, stage, chie, body).await?;
    let mallory = "Mallory opens a checking account with 800.00 USD";
    let mallory = open(api, stage, mallory, checking("USD", "800.00")).await?;
    let path = format!("/v1/accounts/{ada}/deposits");
    let wanted = Wanted {
        title: "Ada pays in 250.00 USD",
        mood: Mood::Done,
        method: "POST",
        path: &path,
        key: new_id(),
        body: json!({ "amount": "250.00", "currency": "USD", "description": "Salary" }),
        status: 201,
        look: &format!("/v1/accounts/{ada}/transactions"),
    };
    act(api, stage, wanted, |answer| {
        let balance = text(&answer.body["account"], "balance")?;
        ensure!(balance == "1250.00", "the balance is {balance}");
        Ok(format!("balance {balance} USD, against the bank's cash"))
    })
    .await?;
    Ok(People { ada, ben, chie, mallory })
}

/// A transfer, and the state it must end in.
async fn transfer(
    api: &mut Api,
    stage: &mut Stage,
    title: &str,
    mood: Mood,
    body: Value,
    outcome: impl FnOnce(&Answered) -> anyhow::Result<String>,
) -> anyhow::Result<Uuid> {
    let id = new_id();
    let wanted = Wanted {
        title,
        mood,
        method: "POST",
        path: "/v1/transfers",
        key: id,
        body,
        status: 200,
        look: &format!("/v1/transfers/{id}"),
    };
    act(api, stage, wanted, |answer| {
        let state = answer.text("state")?;
        let expected = if mood == Mood::Done { "completed" } else { "compensated" };
        ensure!(state == expected, "the transfer is {state}");
        let word = if mood == Mood::Refused { "refused" } else { state };
        Ok(format!("{word}: {}", outcome(answer)?))
    })
    .await?;
    Ok(id)
}

/// Why a transfer was compensated; it must begin with `word`.
fn reason<'a>(answer: &'a Answered, word: &str) -> anyhow::Result<&'a str> {
    let reason = answer.text("reason")?;
    ensure!(reason.starts_with(word), "the reason is '{reason}', not {word}");
    Ok(reason)
}

async fn transfers(api: &mut Api, stage: &mut Stage, people: &People) -> anyhow::Result<()> {
    let People { ada, ben, chie, .. } = people;
    let body = json!({
        "sender_account_id": ada, "receiver_account_id": ben,
        "amount": "120.00", "currency": "USD", "description": "Rent"
    });
    transfer(api, stage, "Ada sends Ben 120.00 USD", Mood::Done, body, |_| {
        Ok("one debit and one credit, each in one commit with the payment's own record".to_owned())
    })
    .await?;
    let body = json!({
        "sender_account_id": ben, "receiver_account_id": ada,
        "amount": "900.00", "currency": "USD", "description": "Too much"
    });
    let title = "Ben tries to send 900.00 USD, more than his savings";
    transfer(api, stage, title, Mood::Refused, body, |answer| {
        Ok(format!("{}; nothing moved", reason(answer, "insufficient_funds")?))
    })
    .await?;
    let body = json!({
        "sender_account_id": ada, "receiver_account_id": chie,
        "amount": "100.00", "currency": "USD", "description": "Books",
        "fx": { "rate": "151.375", "currency": "JPY", "rounding": "half_even" }
    });
    let title = "Ada sends Chie 100.00 USD, at a quoted rate of 151.375 yen";
    transfer(api, stage, title, Mood::Done, body, |answer| {
        let credited = answer.text("credited_amount")?;
        ensure!(credited == "15138", "{credited} were credited");
        Ok(format!("{credited} JPY credited, rounded half to even as the quote says"))
    })
    .await?;
    Ok(())
}

/// A payment that is undone: its id.
async fn risk(api: &mut Api, stage: &mut Stage, people: &People) -> anyhow::Result<Uuid> {
    let People { ada, mallory, .. } = people;
    let path = format!("/v1/risk/accounts/{mallory}/flag");
    let wanted = Wanted {
        title: "The bank flags Mallory's account",
        mood: Mood::Done,
        method: "PUT",
        path: &path,
        key: new_id(),
        body: json!({ "reason": "reported by two customers", "flagged_by": "Grace, risk desk" }),
        status: 201,
        look: &format!("/v1/accounts/{mallory}"),
    };
    act(api, stage, wanted, |_| Ok("payments from and to it will fail the risk check".to_owned()))
        .await?;
    let body = json!({
        "sender_account_id": mallory, "receiver_account_id": ada,
        "amount": "300.00", "currency": "USD", "description": "A gift"
    });
    let title = "Mallory sends Ada 300.00 USD";
    transfer(api, stage, title, Mood::Undone, body, |answer| {
        Ok(format!("{}; what was debited is back", reason(answer, "risk_check_failed")?))
    })
    .await
}

async fn hold(api: &mut Api, stage: &mut Stage, people: &People) -> anyhow::Result<()> {
    let (ada, hold) = (people.ada, new_id());
    let account = format!("/v1/accounts/{ada}");
    let path = format!("{account}/holds");
    let wanted = Wanted {
        title: "A hotel holds 200.00 USD on Ada's account",
        mood: Mood::Done,
        method: "POST",
        path: &path,
        key: hold,
        body: json!({ "amount": "200.00", "currency": "USD", "description": "Two nights" }),
        status: 201,
        look: &account,
    };
    act(api, stage, wanted, |answer| {
        let account = &answer.body["account"];
        let (balance, available) = (text(account, "balance")?, text(account, "available")?);
        ensure!(balance == "1030.00", "the balance is {balance}");
        Ok(format!(
            "balance still {balance}, of which {available} are available with the overdraft"
        ))
    })
    .await?;
    let path = format!("{account}/holds/{hold}/capture");
    let wanted = Wanted {
        title: "The hotel captures 140.00 USD of it",
        mood: Mood::Done,
        method: "POST",
        path: &path,
        key: new_id(),
        body: json!({ "amount": "140.00" }),
        status: 201,
        look: &account,
    };
    act(api, stage, wanted, |answer| {
        let account = &answer.body["account"];
        let (balance, held) = (text(account, "balance")?, text(account, "held")?);
        ensure!((balance, held) == ("890.00", "60.00"), "balance {balance}, held {held}");
        Ok(format!("balance {balance}, {held} still held until released"))
    })
    .await
}

async fn freeze(api: &mut Api, stage: &mut Stage, people: &People) -> anyhow::Result<()> {
    let account = format!("/v1/accounts/{}", people.mallory);
    let path = format!("{account}/freeze");
    let wanted = Wanted {
        title: "The bank freezes Mallory's account",
        mood: Mood::Done,
        method: "POST",
        path: &path,
        key: new_id(),
        body: json!({ "reason": "under investigation", "frozen_by": "Grace, risk desk" }),
        status: 201,
        look: &account,
    };
    act(api, stage, wanted, |answer| {
        let status = text(&answer.body["account"], "status")?;
        ensure!(status == "frozen", "the account is {status}");
        Ok("frozen: it takes deposits, and pays nothing".to_owned())
    })
    .await?;
    let path = format!("{account}/withdrawals");
    let wanted = Wanted {
        title: "Mallory tries to withdraw 50.00 USD",
        mood: Mood::Refused,
        method: "POST",
        path: &path,
        key: new_id(),
        body: json!({ "amount": "50.00", "currency": "USD" }),
        status: 422,
        look: &account,
    };
    act(api, stage, wanted, |answer| {
        let kind = answer.text("type")?;
        ensure!(kind == "urn:daybook:problem:account-frozen", "it was refused as {kind}");
        Ok(format!("refused: {}", answer.text("detail")?))
    })
    .await
}
