//! Which user a container runs as.

use std::fs;
use std::path::Path;

use pod_manifests::{Leave, Security};

/// A user by numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Its other groups.
    pub(crate) groups: Vec<u32>,
}

impl User {
    /// The manifest's, else the image's (`user`, `user:group`, by name or number), else root.
    pub(crate) fn of(security: &Security, image: &str, rootfs: &Path) -> Result<Self, String> {
        let (users, groups) = (table(rootfs, "etc/passwd"), table(rootfs, "etc/group"));
        let (user, group) = match (security.user, image) {
            (Some(uid), _) => (uid.to_string(), None),
            (None, "") => ("0".to_owned(), None),
            (None, text) => match text.split_once(':') {
                Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
                None => (text.to_owned(), None),
            },
        };
        let by_number = security.user.is_some() || user.parse::<u32>().is_ok();
        let entry = users.iter().find(|entry| {
            let key = if by_number { 2 } else { 0 };
            entry.get(key).is_some_and(|field| *field == user)
        });
        let number = |entry: Option<&Vec<String>>, field: usize| entry?.get(field)?.parse::<u32>().ok();
        let uid = number(entry, 2).or_else(|| user.parse().ok());
        let uid =
            uid.ok_or_else(|| format!("its image wants user {user:?}, who is not in its /etc/passwd"))?;
        if security.root == Leave::Refused && uid == 0 {
            return Err("securityContext.runAsNonRoot is true, and it would run as root".to_owned());
        }
        let named = match group {
            None => None,
            Some(group) => {
                let entry = groups.iter().find(|entry| entry.first() == Some(&group));
                let gid = group.parse().ok().or_else(|| number(entry, 2));
                Some(gid.ok_or_else(|| {
                    format!("its image wants group {group:?}, which is not in its /etc/group")
                })?)
            }
        };
        let gid = security.group.or(named).or_else(|| number(entry, 3)).unwrap_or(0);
        let name = entry.and_then(|entry| entry.first());
        let member = |entry: &&Vec<String>| {
            let members = entry.get(3).map(String::as_str).unwrap_or_default();
            name.is_some_and(|name| members.split(',').any(|member| member == name))
        };
        let mut more: Vec<u32> =
            groups.iter().filter(member).filter_map(|entry| number(Some(entry), 2)).collect();
        more.extend(&security.groups);
        more.sort_unstable();
        more.dedup();
        Ok(Self { uid, gid, groups: more })
    }
}

/// The lines of a table of users or groups; none if the image has no such file of its own.
fn table(rootfs: &Path, name: &str) -> Vec<Vec<String>> {
    let path = rootfs.join(name);
    let inside = fs::canonicalize(&path)
        .ok()
        .zip(fs::canonicalize(rootfs).ok())
        .is_some_and(|(path, rootfs)| path.starts_with(rootfs));
    let text = if inside { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}
