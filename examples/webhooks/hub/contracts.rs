//! Typed contracts for what we work with; a payload has far more fields, which nobody has to name.
//!
//! Honest contracts: what GitHub leaves out or sends as `null` is an `Option`, everything else must be there.

use abe_events::{data, event};

/// Commits, a branch or a tag were pushed, as the first version of our relay kept it.
#[event(topic = "github.push", version = "v1")]
pub(crate) struct PushV1 {
    pub(crate) repo: String,
    pub(crate) branch: String,
    pub(crate) user: String,
}

/// Commits, a branch or a tag were pushed.
#[event(topic = "github.push", version = "v2", upcast_from = PushV1)]
#[derive(Clone)]
pub(crate) struct Push {
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    pub(crate) deleted: bool,
    pub(crate) commits: Vec<Commit>,
    /// `null` when nothing was pushed but a reference was made or deleted.
    pub(crate) head_commit: Option<Commit>,
    pub(crate) repository: Repository,
    pub(crate) pusher: Pusher,
}

impl From<PushV1> for Push {
    fn from(old: PushV1) -> Self {
        Self {
            reference: format!("refs/heads/{}", old.branch),
            deleted: false,
            commits: Vec::new(),
            head_commit: None,
            repository: Repository { full_name: old.repo },
            pusher: Pusher { name: old.user },
        }
    }
}

/// Something happened to a pull request.
#[event(topic = "github.pull_request")]
#[derive(Clone)]
pub(crate) struct PullRequest {
    pub(crate) action: String,
    pub(crate) number: u64,
    pub(crate) pull_request: Proposal,
    pub(crate) repository: Repository,
}

/// Something happened to an issue.
#[event(topic = "github.issues")]
#[derive(Clone)]
pub(crate) struct Issues {
    pub(crate) action: String,
    pub(crate) issue: Issue,
    pub(crate) repository: Repository,
}

/// Somebody commented on an issue or a pull request.
#[event(topic = "github.issue_comment")]
#[derive(Clone)]
pub(crate) struct IssueComment {
    pub(crate) action: String,
    pub(crate) issue: Issue,
    pub(crate) comment: Comment,
    pub(crate) repository: Repository,
}

/// A release was made, changed or published.
#[event(topic = "github.release")]
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) action: String,
    pub(crate) release: Tagged,
    pub(crate) repository: Repository,
}

/// A workflow was asked for, or ended.
#[event(topic = "github.workflow_run")]
#[derive(Clone)]
pub(crate) struct WorkflowRun {
    pub(crate) action: String,
    pub(crate) workflow_run: Run,
    pub(crate) repository: Repository,
}

/// A union: one handler for all six, with types.
#[event]
pub(crate) enum Activity {
    Push(Push),
    PullRequest(PullRequest),
    Issues(Issues),
    IssueComment(IssueComment),
    Release(Release),
    WorkflowRun(WorkflowRun),
}

#[data]
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) full_name: String,
}

#[data]
#[derive(Clone)]
pub(crate) struct Pusher {
    pub(crate) name: String,
}

#[data]
#[derive(Clone)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) message: String,
}

#[data]
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) title: String,
    pub(crate) merged: bool,
    pub(crate) body: Option<String>,
    pub(crate) merged_at: Option<String>,
}

#[data]
#[derive(Clone)]
pub(crate) struct Issue {
    pub(crate) number: u64,
    pub(crate) title: String,
    /// Left out by some actions.
    #[serde(default)]
    pub(crate) state: Option<String>,
    pub(crate) closed_at: Option<String>,
}

#[data]
#[derive(Clone)]
pub(crate) struct Comment {
    pub(crate) body: String,
    pub(crate) author_association: String,
}

#[data]
#[derive(Clone)]
pub(crate) struct Tagged {
    pub(crate) tag_name: String,
    pub(crate) name: Option<String>,
    pub(crate) prerelease: bool,
}

#[data]
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) id: u64,
    /// `null` until the run has ended.
    pub(crate) conclusion: Option<String>,
}
