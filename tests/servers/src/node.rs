use crate::server::Server;

/// A node of a Redis Cluster as one of them knows it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    /// It is the one that was asked.
    pub(crate) is_itself: bool,
    pub(crate) is_primary: bool,
    /// Of two that own a slot, the one with the higher epoch is right.
    pub(crate) epoch: u64,
    pub(crate) slots: Vec<(u16, u16)>,
}

impl Node {
    /// The server as it knows itself.
    pub(crate) async fn of(server: &Server) -> Result<Self, String> {
        let mut nodes = Self::all_by(server).await?.into_iter();
        nodes
            .find(|node| node.is_itself)
            .ok_or_else(|| format!("{} does not know itself", server.port()))
    }

    /// All that this server knows.
    pub(crate) async fn all_by(server: &Server) -> Result<Vec<Self>, String> {
        let nodes = server.status(&["CLUSTER", "NODES"]).await?;
        let nodes = nodes.lines().map(|line| {
            parse(line).ok_or_else(|| format!("a node with an unexpected line: {line:?}"))
        });
        nodes.collect()
    }

    pub(crate) fn owns(&self, slot: u16) -> bool {
        let mut ranges = self.slots.iter();
        self.is_primary && ranges.any(|&(first, last)| (first..=last).contains(&slot))
    }
}

/// `ID ADDRESS FLAGS PRIMARY PING PONG EPOCH LINK SLOTS...`
fn parse(line: &str) -> Option<Node> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, _, flags, _, _, _, epoch, _, slots @ ..] = &words[..] else {
        return None;
    };
    let has = |flag| flags.split(',').any(|word| word == flag);
    // What is in brackets is under way.
    let slots = slots.iter().filter(|slots| !slots.starts_with('['));
    Some(Node {
        id: (*id).to_owned(),
        is_itself: has("myself"),
        is_primary: has("master"),
        epoch: epoch.parse().ok()?,
        slots: slots.map(|slots| range(slots)).collect::<Option<_>>()?,
    })
}

/// `5461-10922`, or one slot, `5461`.
fn range(slots: &str) -> Option<(u16, u16)> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some((first.parse().ok()?, last.parse().ok()?))
}

pub(crate) const SLOTS: usize = 16_384;
