//! What a developer needs to be allowed to do for building in a cluster, as
//! the Role that an administrator can apply.

/// The authorizer said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// What was asked for.
    pub action: String,
    /// Where.
    pub namespace: String,
    /// The server's words, which name the user, the verb and the resource.
    pub message: String,
}

impl Forbidden {
    /// The smallest Role with which a build works, ready for `kubectl apply`.
    /// It is the whole one, not the missing rule alone: a user who lacks one
    /// verb mostly lacks the next as well.
    pub fn hint(&self) -> String {
        format!(
            "an administrator can allow it with this Role and a RoleBinding of it:\n{}",
            build_role(&self.namespace)
        )
    }
}

/// The Role of everything that [`super::ClusterBackend`] asks for.
///
/// `get` on `pods/exec` is what a WebSocket exec needs; servers from 1.35 on
/// also ask for `create` there (KEP-4006).
pub fn build_role(namespace: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: kiln-build
  namespace: {namespace}
rules:
  - apiGroups: [\"\"]
    resources: [pods]
    verbs: [create, get, list, watch, patch, delete]
  - apiGroups: [\"\"]
    resources: [pods/exec]
    verbs: [get, create]
  - apiGroups: [\"\"]
    resources: [pods/log]
    verbs: [get]
  - apiGroups: [\"\"]
    resources: [events]
    verbs: [list]
  - apiGroups: [\"\"]
    resources: [secrets]
    verbs: [create, get, list, patch, delete]
"
    )
}
