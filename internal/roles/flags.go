package roles

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/wire"
)

// Flag is a command-line flag and the field of a configuration that it sets. The methods named Flags of the
// configurations are the only list of these flags. The command line and the development cluster both use it.
type Flag struct {
	Name  string
	Value any // pointer to the field, or a Value where the flag's unit differs from the field's
	// Usage is the help text. A word in backquotes stands for the value, as in package pflag.
	Usage string
	// Repeat makes each use of a flag with several values add one value. Otherwise commas separate values.
	Repeat bool
}

// Value is the text form of a field, as package pflag has it.
type Value interface {
	String() string
	Set(string) error
	Type() string
}

// Flags lists the flags that every role has.
func (c *NodeConfig) Flags() []Flag {
	return []Flag{
		{Name: "data", Value: &c.Data, Usage: "data `folder`, created if it is missing"},
		{Name: "http", Value: &c.HTTP, Usage: "`address` to serve HTTP on"},
		{Name: "advertise", Value: &c.Advertise,
			Usage: "`URL` at which the other nodes reach this one (default: http:// or https:// and the address)"},
		{Name: "tls-cert", Value: &c.TLS.Cert,
			Usage: "`file` with this node's certificate (PEM): all nodes and users then speak TLS 1.3; read again " +
				"when it changes, as are the next two"},
		{Name: "tls-key", Value: &c.TLS.Key, Usage: "`file` with the certificate's private key"},
		{Name: "tls-ca", Value: &c.TLS.CA, Usage: "`file` with the authorities whose nodes are trusted"},
		{Name: "tls-grace", Value: &c.TLSGrace,
			Usage: "accept certificates of other nodes that have expired or are not valid yet for this long, of this " +
				"node's running time, with an alarm; 0 for not at all"},
		{Name: "insecure", Value: &c.Insecure,
			Usage: "allow addresses other than loopback without TLS: tokens and records then cross that network " +
				"unencrypted"},
		{Name: "older-nodes", Value: &c.OlderNodes,
			Usage: "send the cluster token to nodes of versions that cannot prove it without sending it; for a new " +
				"node in a cluster that is not upgraded yet"},
		{Name: "after-failed-sync", Value: &c.AfterFailedSync,
			Usage: "start although a sync of the data folder failed since the machine was started: a power cut may " +
				"then lose what others count on; for one start"},
		{Name: "max-connections", Value: &c.MaxConnections,
			Usage: "connections to HTTP at once (default half of the files that the process may open, at most 10000)"},
		{Name: "max-connections-per-address", Value: &c.MaxConnectionsPerAddress,
			Usage: "connections to HTTP at once from one address (default half of --max-connections, or 2000 if that " +
				"is more)"},
	}
}

// Flags lists the flags of a master.
func (c *MasterConfig) Flags() []Flag {
	flags := append(c.NodeConfig.Flags(),
		Flag{Name: "tls-user-cert", Value: &c.TLS.UserCert,
			Usage: "`file` with a certificate that users see instead of --tls-cert, such as one of a public authority"},
		Flag{Name: "tls-user-key", Value: &c.TLS.UserKey, Usage: "`file` with its private key"},
		Flag{Name: "raft", Value: &c.Raft, Usage: "`address` of the raft port"},
		Flag{Name: "raft-advertise", Value: &c.RaftAdvertise,
			Usage: "`address` host:port at which the other masters reach the raft port (default: that of --raft)"},
		Flag{Name: "peers", Value: &c.Peers,
			Usage: "`URLs` of all masters, including this one; none for a group of one"},
		Flag{Name: "join", Value: &c.Join,
			Usage: "`URLs` of masters whose group this one joins, instead of --peers"},
		Flag{Name: "join-ticket-file", Value: &c.JoinTicketFile,
			Usage: "`file` with a ticket of 'chainstore master ticket create', for a new master with --join"},
		Flag{Name: "at-rest-keys", Value: &c.AtRestKeys,
			Usage: atRestUsage + "log and snapshots with the first, decrypt with all"},
	)
	flags = append(flags, c.secretFlags(secrets.Names...)...)
	return append(flags, c.MasterOptions.Flags()...)
}

// secretFlags lists the flags of files with secrets.
func (c *NodeConfig) secretFlags(names ...string) []Flag {
	usage := map[string]string{
		wire.SecretMasters:  "`file` with a secret of masters only, for their calls to each other and raft",
		wire.SecretStorage:  "`file` with a secret of masters and storage nodes",
		wire.SecretMiner:    "`file` with a secret of masters and miners",
		wire.SecretRecovery: "`file` with a secret for recoveries of the masters, which storage nodes verify",
		wire.SecretSeal:     "`file` with a secret of masters only, under which they seal the log's private keys",
	}
	var flags []Flag
	for _, name := range names {
		flags = append(flags, Flag{
			Name: secretFlag(name), Value: c.SecretFiles.Path(name),
			Usage: usage[name] + " (default: the cluster token)",
		})
	}
	return flags
}

// secretFlag is the flag of the file of a secret.
func secretFlag(name string) string {
	if name == wire.SecretMasters {
		name = "master"
	}
	return name + "-secret-file"
}

// Flags lists the flags of a master's options.
func (o *MasterOptions) Flags() []Flag {
	s := &o.Settings
	flags := []Flag{
		{Name: "disk-timeout", Value: &o.DiskTimeout,
			Usage: "stop when a write of the log or of a vote takes longer (default 2s)"},
		{Name: "raft-timeout", Value: &o.Timeout,
			Usage: "heartbeat, election and lease timeout of raft (default 300ms)"},
		{Name: "max-age", Value: &o.MaxAge,
			Usage: "cut a block when its oldest record reaches this age (default 1s)"},
		{Name: "max-records", Value: &s.MaxRecords, Usage: "cut a block at this many records"},
		{Name: "max-bytes", Value: &s.MaxBytes, Usage: "cut a block at this many bytes"},
		{Name: "max-pending-bytes", Value: &s.MaxPendingBytes,
			Usage: "refuse appends when this many bytes are not stored yet"},
		{Name: "retain-bytes", Value: &s.RetainBytes,
			Usage: "stored bytes kept in memory for storage nodes that are behind"},
		{Name: "difficulty", Value: &s.Difficulty, Usage: "leading zero bits of a block's hash"},
		{Name: "replicas", Value: &s.Replicas,
			Usage: "storage nodes that must have a block before the masters drop it"},
		{Name: "max-keys", Value: &s.MaxKeys, Usage: "idempotency keys remembered"},
		{Name: "key-age", Value: (*milliseconds)(&s.KeyAge), Usage: "time for which idempotency keys are remembered"},
		{Name: "max-record-bytes", Value: &o.Limits.RecordBytes, Usage: "largest record accepted, in bytes"},
		{Name: "open-registration", Value: &o.OpenRegistration,
			Usage: "let anyone create a project without a token; give it to all masters"},
		{Name: "open-rate", Value: &o.OpenRate,
			Usage: "requests per second and address to routes that take no token, except the console and health " +
				"(ten times as many at once); 0 for no limit"},
		{Name: "browser-host", Value: &o.BrowserHosts, Repeat: true,
			Usage: "`name` of a proxy under which browsers reach the masters, for pages that send no token; " +
				"repeat it for several, and give the same to all masters"},
		{Name: "read-cache", Value: (*mebibytes)(&o.ReadCache),
			Usage: "`MiB` of records that a master keeps in memory after it has read and proven them; 0 for none"},
		{Name: "tile-cache", Value: (*mebibytes)(&o.TileCache),
			Usage: "`MiB` of proven hashes of the tree that a master keeps in memory"},
		{Name: "original-api", Value: &o.OriginalAPI,
			Usage: "also serve the routes of the original system (docs/compatibility.md); give it to all masters"},
	}
	flags = append(flags, o.spaceFlags("appends")...)
	flags = append(flags, o.oidcFlags()...)
	return append(append(flags, o.logFlags()...), o.CheckFlags()...)
}

// oidcFlags lists the flags of the OpenID Connect issuer.
func (o *MasterOptions) oidcFlags() []Flag {
	return []Flag{
		{Name: "oidc-issuer", Value: &o.OIDC.Issuer,
			Usage: "`URL` of an OpenID Connect issuer whose tokens are accepted, as in their claim iss; give this " +
				"and the other --oidc flags to all masters"},
		{Name: "oidc-audience", Value: &o.OIDC.Audiences, Repeat: true,
			Usage: "`audience` that the tokens must be for; repeat it for several"},
		{Name: "oidc-ca", Value: &o.OIDC.CA,
			Usage: "`file` with the authorities of the issuer's certificate (default: those of the system)"},
		{Name: "oidc-claim-roles", Value: &o.OIDC.ClaimRoles,
			Usage: "`claim` whose values --oidc-roles maps, such as groups or realm_access.roles"},
		{Name: "oidc-roles", Value: &o.OIDC.Roles, Repeat: true,
			Usage: "`VALUE=ROLE`: holders of tokens with this value of the claim have the role admin, operator or " +
				"auditor; repeat it for several"},
		{Name: "oidc-claim-projects", Value: &o.OIDC.ClaimProjects, Usage: "`claim` whose values --oidc-projects maps"},
		{Name: "oidc-projects", Value: &o.OIDC.Projects, Repeat: true,
			Usage: "`VALUE=PROJECT:RIGHTS`: holders of tokens with this value of the claim have the rights read, " +
				"append or read,append in the project of this id or name; repeat it for several"},
		{Name: "oidc-console-client", Value: &o.OIDC.ConsoleClient,
			Usage: "`id` of a public client at the issuer with which users sign in to the console; also an " +
				"--oidc-audience (default: no sign-in)"},
		{Name: "oidc-console-scopes", Value: &o.OIDC.ConsoleScopes, Usage: "`scopes` that the console asks for"},
	}
}

// logFlags lists the flags of the transparency log.
func (o *MasterOptions) logFlags() []Flag {
	return []Flag{
		{Name: "checkpoint-key", Value: &o.CheckpointKey,
			Usage: "`file` with one private key to sign checkpoints with, a line of the output of " +
				"'chainstore log backup' (default: the first leader makes one)"},
		{Name: "origin", Value: &o.Origin,
			Usage: "`name` of the log, used when its first key is founded (default chainstore/GROUP-ID, followed by " +
				"the epoch once the group was recovered); give it to all masters"},
		{Name: "private-log", Value: &o.PrivateLog,
			Usage: "require a token of the cluster to read the log; give it to all masters"},
		{Name: "witness", Value: &o.Witnesses, Repeat: true,
			Usage: "`'VKEY URL'` of a witness that cosigns checkpoints (C2SP tlog-witness); repeat it for several, " +
				"and give the same to all masters"},
		{Name: "witness-quorum", Value: &o.Settings.WitnessQuorum,
			Usage: "witnesses that must have cosigned a checkpoint before it is shown"},
		{Name: "approve-workers", Value: &o.Settings.ApproveWorkers,
			Usage: "give new storage nodes and miners no work until an administrator approves them; give it to all " +
				"masters"},
	}
}

// CheckFlags lists the flags of the checks of storage nodes.
func (o *MasterOptions) CheckFlags() []Flag {
	return []Flag{
		{Name: "check-interval", Value: &o.CheckInterval,
			Usage: "check a storage node's chain this long after its last check ended; 0 for no checks on a schedule"},
		{Name: "check-rate", Value: (*mebibytes)(&o.CheckRate),
			Usage: "`MiB` that a check reads per second at most; 0 for no limit"},
	}
}

// StorageFlags lists the flags of a storage node.
func (c *WorkerConfig) StorageFlags() []Flag {
	flags := append(c.flags(), Flag{Name: "segment-bytes", Value: &c.SegmentBytes,
		Usage: "size at which a new file of blocks begins"},
		Flag{Name: "at-rest-keys", Value: &c.AtRestKeys,
			Usage: atRestUsage + "blocks, inbox and index of records with the first, decrypt with all"})
	flags = append(flags, c.secretFlags(workerSecrets("storage")...)...)
	return append(flags, c.SpaceOptions.spaceFlags("blocks")...)
}

// atRestUsage begins the description of --at-rest-keys.
const atRestUsage = "`file` with keys of 64 hex digits, one a line, read again when it changes: encrypt "

// spaceFlags lists the flags of the limits of free space. what names the data that the role takes.
func (o *SpaceOptions) spaceFlags(what string) []Flag {
	return []Flag{
		{Name: "min-free", Value: (*mebibytes)(&o.MinFree),
			Usage: "refuse " + what + " while less than this many `MiB` are free on the disk of the data folder; " +
				"0 for no limit"},
		{Name: "warn-free", Value: (*mebibytes)(&o.WarnFree),
			Usage: "warn while less than this many `MiB` are free; 0 for never"},
	}
}

// MinerFlags lists the flags of a miner.
func (c *WorkerConfig) MinerFlags() []Flag {
	flags := append(c.flags(), Flag{Name: "threads", Value: &c.Threads, Usage: "cores to use"})
	return append(flags, c.secretFlags(workerSecrets("miner")...)...)
}

func (c *WorkerConfig) flags() []Flag {
	return append(c.NodeConfig.Flags(),
		Flag{Name: "masters", Value: &c.Masters, Usage: "`URLs` of the masters; any of them is enough to register"})
}

// Args returns the arguments that set the given flags, without those that have their value in defaults.
func Args(flags, defaults []Flag) []string {
	var args []string
	for i, f := range flags {
		if reflect.DeepEqual(f.Value, defaults[i].Value) {
			continue
		}
		texts := []string{}
		switch v := f.Value.(type) {
		case *[]string:
			texts = *v
		case Value:
			texts = append(texts, v.String())
		default:
			texts = append(texts, fmt.Sprint(reflect.ValueOf(v).Elem()))
		}
		for _, text := range texts {
			args = append(args, "--"+f.Name+"="+text)
		}
	}
	return args
}

// milliseconds is a number of milliseconds that is written as a duration.
type milliseconds uint64

func (m *milliseconds) String() string { return (time.Duration(*m) * time.Millisecond).String() }

func (m *milliseconds) Type() string { return "duration" }

func (m *milliseconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	*m = milliseconds(max(d, 0).Milliseconds())
	return err
}

// mebibytes is a number of bytes that is written in MiB.
type mebibytes int64

func (m *mebibytes) String() string { return strconv.FormatInt(int64(*m)>>20, 10) }

func (m *mebibytes) Type() string { return "int" }

func (m *mebibytes) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 43) // as bytes it fits 63 bits
	*m = mebibytes(n << 20)
	return err
}
