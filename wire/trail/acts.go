package trail

import (
	"fmt"
	"slices"
)

// The built-in project of the audit trail. No other project ever gets the id.
const (
	Project   = "_audit"
	ProjectID = 1<<32 - 1
)

// Type is the media type of the records.
const Type = "application/vnd.chainstore.audit"

// Act is what was done. The numbers are in records for good: one is never used again.
type Act uint16

// The acts. Those from 38 to 63 are reserved for nodes that join and for sign-in.
const (
	ProjectCreate      Act = 1
	ProjectChange      Act = 2
	ProjectRename      Act = 3 // of a project that had the name _audit
	TokenCreate        Act = 4
	TokenRevoke        Act = 5
	AdminCreate        Act = 6
	AdminRevoke        Act = 7
	SettingsChange     Act = 8
	TimeSet            Act = 9
	LossConfirm        Act = 10
	StorageCheck       Act = 11
	StorageRemove      Act = 12
	MinerRemove        Act = 13
	MasterAdmit        Act = 14
	MasterPromote      Act = 15
	MasterRemove       Act = 16
	LeadershipTransfer Act = 17
	WorkerRegister     Act = 18
	LogKeyAdd          Act = 19
	LogKeyRetire       Act = 20
	LevelRaise         Act = 21
	CertificateReload  Act = 22
	ProjectClose       Act = 23 // or open again
	LogClose           Act = 24
	Recovery           Act = 25
	SecretReload       Act = 32
	TicketCreate       Act = 33
	TicketRevoke       Act = 34
	WorkerDecide       Act = 35 // a waiting worker was approved or refused
	TLSStep            Act = 36 // of the move to TLS
	Baseline           Act = 37 // what there was when the audit trail began
)

// actNames are the names of the acts in the API.
var actNames = map[Act]string{
	ProjectCreate:      "project-create",
	ProjectChange:      "project-change",
	ProjectRename:      "project-rename",
	TokenCreate:        "token-create",
	TokenRevoke:        "token-revoke",
	AdminCreate:        "admin-create",
	AdminRevoke:        "admin-revoke",
	SettingsChange:     "settings-change",
	TimeSet:            "time-set",
	LossConfirm:        "loss-confirm",
	StorageCheck:       "storage-check",
	StorageRemove:      "storage-remove",
	MinerRemove:        "miner-remove",
	MasterAdmit:        "master-admit",
	MasterPromote:      "master-promote",
	MasterRemove:       "master-remove",
	LeadershipTransfer: "leadership-transfer",
	WorkerRegister:     "worker-register",
	LogKeyAdd:          "log-key-add",
	LogKeyRetire:       "log-key-retire",
	LevelRaise:         "level-raise",
	CertificateReload:  "certificate-reload",
	ProjectClose:       "project-close",
	LogClose:           "log-close",
	Recovery:           "recovery",
	SecretReload:       "secret-reload",
	TicketCreate:       "ticket-create",
	TicketRevoke:       "ticket-revoke",
	WorkerDecide:       "worker-decide",
	TLSStep:            "tls-step",
	Baseline:           "baseline",
}

// Acts returns all acts that this program knows, in the order of their numbers.
func Acts() []Act {
	acts := make([]Act, 0, len(actNames))
	for act := range actNames {
		acts = append(acts, act)
	}
	slices.Sort(acts)
	return acts
}

// String is the name of the act. One that a newer program wrote is named by its number.
func (a Act) String() string { return nameOf(actNames, a, "act") }

// MarshalText writes the name.
func (a Act) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads a name.
func (a *Act) UnmarshalText(text []byte) error { return parseName(actNames, text, "act", a) }

// Phase says how the record stands to the act.
type Phase uint8

// The phases.
const (
	Done     Phase = 0 // the act was done by the commit that wrote the record
	Intent   Phase = 1 // the act follows
	Ended    Phase = 2 // the outcome of an intent
	Reported Phase = 3 // a node did the act, and reported it afterwards
)

var phaseNames = map[Phase]string{Done: "done", Intent: "intent", Ended: "outcome", Reported: "reported"}

// String is the name of the phase in the API.
func (p Phase) String() string { return nameOf(phaseNames, p, "phase") }

// MarshalText writes the name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a name.
func (p *Phase) UnmarshalText(text []byte) error { return parseName(phaseNames, text, "phase", p) }

// Outcome is how an act ended.
type Outcome uint8

// The outcomes.
const (
	Succeeded Outcome = 0
	NotDone   Outcome = 1
	Unknown   Outcome = 2 // as of an intent
)

var outcomeNames = map[Outcome]string{Succeeded: "done", NotDone: "not-done", Unknown: "unknown"}

// String is the name of the outcome in the API.
func (o Outcome) String() string { return nameOf(outcomeNames, o, "outcome") }

// MarshalText writes the name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads a name.
func (o *Outcome) UnmarshalText(text []byte) error {
	return parseName(outcomeNames, text, "outcome", o)
}

// ActorKind is the kind of an [Actor].
type ActorKind uint8

// The kinds of actors. What ID and Name of an [Actor] are is said of each.
const (
	ByLeader    ActorKind = 0 // the leader itself, as part of its duties: Name is its member id
	ByAdmin     ActorKind = 1 // the admin token of the command line
	ByNamed     ActorKind = 2 // a named admin token: its id and name
	ByAnyone    ActorKind = 3 // a caller without a token
	ByNode      ActorKind = 4 // a node: Name is its id
	ByProject   ActorKind = 5 // a token of a project: the project's id and name
	ByOperator  ActorKind = 6 // a person at the machine: a recovery, which runs offline
	ByIdentity  ActorKind = 7 // a token of the OIDC issuer: its issuer, subject and name
	byUndefined ActorKind = 8 // the first that this program does not know
)

var actorNames = map[ActorKind]string{
	ByLeader: "leader", ByAdmin: "admin-token", ByNamed: "named-admin", ByAnyone: "anyone", ByNode: "node",
	ByProject: "project", ByOperator: "operator", ByIdentity: "oidc",
}

// Known reports whether this program knows the kind.
func (k ActorKind) Known() bool { return k < byUndefined }

// String is the name of the kind in the API.
func (k ActorKind) String() string { return nameOf(actorNames, k, "actor") }

// MarshalText writes the name.
func (k ActorKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a name.
func (k *ActorKind) UnmarshalText(text []byte) error { return parseName(actorNames, text, "actor", k) }

// Role is the role of an actor with an admin token.
type Role uint8

// The roles.
const (
	NoRole       Role = 0
	RoleAdmin    Role = 1
	RoleOperator Role = 2
	RoleAuditor  Role = 3
)

var roleNames = map[Role]string{NoRole: "", RoleAdmin: "admin", RoleOperator: "operator", RoleAuditor: "auditor"}

// RoleOf returns the role of a name, NoRole for another name.
func RoleOf(name string) Role {
	for role, known := range roleNames {
		if known == name {
			return role
		}
	}
	return NoRole
}

// String is the name of the role in the API.
func (r Role) String() string { return nameOf(roleNames, r, "role") }

// MarshalText writes the name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a name.
func (r *Role) UnmarshalText(text []byte) error { return parseName(roleNames, text, "role", r) }

// TargetKind is the kind of a [Target].
type TargetKind uint8

// The kinds of targets.
const (
	OfGroup   TargetKind = 1 // settings, time, level, leadership
	OfProject TargetKind = 2
	OfAdmin   TargetKind = 3 // a named admin token
	OfStorage TargetKind = 4
	OfMiner   TargetKind = 5
	OfMaster  TargetKind = 6
	OfLogKey  TargetKind = 7
	OfBlock   TargetKind = 8
	OfTicket  TargetKind = 9 // a join ticket
)

var targetNames = map[TargetKind]string{
	OfGroup: "group", OfProject: "project", OfAdmin: "admin", OfStorage: "storage", OfMiner: "miner",
	OfMaster: "master", OfLogKey: "log-key", OfBlock: "block", OfTicket: "ticket",
}

// String is the name of the kind in keys and in the API.
func (k TargetKind) String() string { return nameOf(targetNames, k, "target") }

// MarshalText writes the name.
func (k TargetKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a name.
func (k *TargetKind) UnmarshalText(text []byte) error {
	return parseName(targetNames, text, "target", k)
}

// nameOf returns the name of a number, and one made of it if there is none.
func nameOf[T ~uint8 | ~uint16](names map[T]string, number T, what string) string {
	if name, ok := names[number]; ok {
		return name
	}
	return fmt.Sprintf("%s-%d", what, number)
}

// parseName reads what nameOf returns.
func parseName[T ~uint8 | ~uint16](names map[T]string, text []byte, what string, into *T) error {
	for number, name := range names {
		if name == string(text) {
			*into = number
			return nil
		}
	}
	var number T
	if _, err := fmt.Sscanf(string(text), what+"-%d", &number); err != nil {
		return fmt.Errorf("%q is no %s of the audit trail", text, what)
	}
	*into = number
	return nil
}
