//! Two handlers share all payloads between them: one knows types, the other takes the rest as it is.

use abe_events::{Context, Incoming, Message, State, subscribe};

use super::contracts::Activity;
use super::tally::Tally;

/// The six kinds with contracts. A deleted branch or tag is no activity.
#[subscribe(name = "activity", idempotent, filter = |event| !event.is_deletion())]
async fn activity(event: &Activity, ctx: &Context, State(tally): State<Tally>) {
    tally.handled(ctx.topic());
    tracing::info!("{}", event.line());
}

/// Everything else below `github.`: raw messages, whose bytes nobody decodes.
#[subscribe(name = "others", topic = "github.>", idempotent, filter = has_no_contract)]
async fn others(message: &Message, State(tally): State<Tally>) {
    tally.handled(message.topic());
    tracing::info!("{}: {} bytes", message.topic(), message.weight());
}

fn has_no_contract(message: &Message) -> bool {
    Activity::contracts().iter().all(|contract| contract.topic != message.topic().as_str())
}

impl Activity {
    fn is_deletion(&self) -> bool {
        matches!(self, Self::Push(push) if push.deleted)
    }

    /// What happened, for people.
    fn line(&self) -> String {
        match self {
            Self::Push(push) => {
                let head = push.head_commit.as_ref().map_or("no commit", |commit| &commit.id);
                let (repository, commits) = (&push.repository.full_name, push.commits.len());
                let first = push.commits.first().map_or("", |commit| &commit.message);
                format!("{repository}: {} pushed {commits} commits to {} ({head}) {first}", push.pusher.name, push.reference)
            }
            Self::PullRequest(event) => {
                let pull = &event.pull_request;
                let state = if pull.merged { pull.merged_at.as_deref().unwrap_or("merged") } else { "not merged" };
                let body = pull.body.as_deref().map_or(0, str::len);
                format!("{}#{} {}: {} ({state}, {body} bytes)", event.repository.full_name, event.number, event.action, pull.title)
            }
            Self::Issues(event) => {
                let (issue, state) = (&event.issue, event.issue.state.as_deref().unwrap_or("unknown"));
                let state = issue.closed_at.as_deref().unwrap_or(state);
                format!("{}#{} {}: {} ({state})", event.repository.full_name, issue.number, event.action, issue.title)
            }
            Self::IssueComment(event) => {
                let (comment, number) = (&event.comment, event.issue.number);
                format!("{}#{number} {} by {}: {}", event.repository.full_name, event.action, comment.author_association, comment.body)
            }
            Self::Release(event) => {
                let release = &event.release;
                let name = release.name.as_deref().unwrap_or(&release.tag_name);
                let kind = if release.prerelease { "prerelease" } else { "release" };
                format!("{} {kind} {name} {}", event.repository.full_name, event.action)
            }
            Self::WorkflowRun(event) => {
                let run = &event.workflow_run;
                let conclusion = run.conclusion.as_deref().unwrap_or("not ended");
                format!("{} run {} {}: {conclusion}", event.repository.full_name, run.id, event.action)
            }
        }
    }
}
