package devcluster

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/internal/secrets"
)

// Topology describes a cluster on this machine. Its roles listen on the loopback address.
type Topology struct {
	Dir      string // folder of everything: cluster.json, logs/, and a folder for each role
	Port     int    // base: masters from it on, raft from +10, miners from +79, storage nodes from +82
	Masters  int
	Storages int
	Miners   int
	LogLevel string // of all roles
	TLS      bool   // all roles speak TLS, with certificates in the folder tls/
	roles.MasterOptions
	roles.WorkerOptions
	// Adjust changes the roles of a test, each with its index in Roles; nil for none.
	Adjust func(index int, r *Role)
	// HTTP is the client through which this process reaches the masters; nil for one of its own, which trusts the
	// cluster's authority.
	HTTP *http.Client
}

// NewTopology returns the cluster that `chainstore dev` starts: three masters, three storage nodes, one miner.
func NewTopology(dir string, port int) Topology {
	t := Topology{
		Dir: dir, Port: port, Masters: 3, Storages: 3, Miners: 1, LogLevel: "info",
		MasterOptions: roles.DefaultMasterOptions(), WorkerOptions: roles.DefaultStorage().WorkerOptions,
	}
	t.Threads = 1
	// All roles share one disk with everything else on this machine. A stall would stop every master at once.
	t.DiskTimeout = 10 * time.Second
	t.OpenRegistration, t.OriginalAPI = true, true
	return t
}

// Offsets of the ports of each kind of role from the base.
const (
	raftOffset    = 10
	minerOffset   = 79
	storageOffset = 82
)

// Kind is a kind of role. Its text is the subcommand that runs it.
type Kind string

// The kinds of role.
const (
	KindMaster  Kind = "master"
	KindStorage Kind = "storage"
	KindMiner   Kind = "miner"
)

// Role is one role of a topology.
type Role struct {
	Name string // "master-1"
	Kind Kind
	Data string // its folder, absolute
	Log  string // its log file, absolute
	HTTP string // host:port
	Raft string // host:port, of a master
	// Advertise and RaftAdvertise are the addresses at which others reach it, host:port; "" if these are HTTP and Raft.
	Advertise, RaftAdvertise string
	// Join lists the URLs of masters whose group a master joins, instead of the topology's; nil for a founding master.
	Join []string
	// JoinTicketFile is the file with its join ticket, "" for none.
	JoinTicketFile string
	// Profiles is the address that serves its Go profiles, host:port; "" for none. A role that shares a process serves
	// none.
	Profiles string
	// AfterFailedSync starts it with --after-failed-sync.
	AfterFailedSync bool
	TLS             certs.Files   // of its certificate; empty without TLS
	Secrets         secrets.Files // the cluster token of the topology for those that are ""
	Remote          bool          // it listens on an address that is not loopback, and is started with --insecure
	// Enter precedes the executable on the role's command line: a program that enters a network namespace, for example,
	// and executes what follows. Roles that share a process cannot have it.
	Enter []string
}

// URL returns the URL at which others reach the role.
func (r Role) URL() string {
	scheme := "http://"
	if r.TLS.Cert != "" {
		scheme = "https://"
	}
	return scheme + cmp.Or(r.Advertise, r.HTTP)
}

func (t Topology) validate() error {
	switch {
	case t.Dir == "" || !filepath.IsAbs(t.Dir):
		return fmt.Errorf("the cluster's folder must be an absolute path, not %q", t.Dir)
	case t.Masters < 1 || t.Masters > raftOffset || t.Storages < 0 ||
		t.Miners < 0 || t.Miners > storageOffset-minerOffset:
		return fmt.Errorf("%d masters, %d storage nodes and %d miners do not fit the ports",
			t.Masters, t.Storages, t.Miners)
	case t.Port < 1 || t.Port+storageOffset+t.Storages > 65536:
		return fmt.Errorf("--port %d: ports %d to %d must lie within 1 and 65535",
			t.Port, t.Port, t.Port+storageOffset+t.Storages-1)
	}
	return t.MasterOptions.Validate()
}

// Roles returns all roles, the masters first.
func (t Topology) Roles() []Role {
	var list []Role
	add := func(kind Kind, n, offset int) {
		for i := range n {
			name := fmt.Sprintf("%s-%d", kind, i+1)
			role := Role{
				Name: name, Kind: kind,
				Data: filepath.Join(t.Dir, name), Log: filepath.Join(t.Dir, "logs", name+".log"),
				HTTP: address(t.Port + offset + i),
			}
			if kind == KindMaster {
				role.Raft = address(t.Port + raftOffset + i)
			}
			if t.TLS {
				role.TLS = t.certFiles(name)
			}
			if t.Adjust != nil {
				t.Adjust(len(list), &role)
			}
			list = append(list, role)
		}
	}
	add(KindMaster, t.Masters, 0)
	add(KindStorage, t.Storages, storageOffset)
	add(KindMiner, t.Miners, minerOffset)
	return list
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// MasterURLs returns the masters' URLs.
func (t Topology) MasterURLs() []string {
	var urls []string
	for _, r := range t.Roles() {
		if r.Kind == KindMaster {
			urls = append(urls, r.URL())
		}
	}
	return urls
}

// master returns the configuration of a master.
func (t Topology) master(r Role, tokens Tokens) roles.MasterConfig {
	cfg := roles.MasterConfig{
		NodeConfig: r.config(tokens), Raft: r.Raft, RaftAdvertise: r.RaftAdvertise, Join: r.Join,
		JoinTicketFile: r.JoinTicketFile,
		AdminToken:     tokens.Admin, MasterOptions: t.MasterOptions, AtRestKeys: t.AtRestKeys,
	}
	if len(r.Join) == 0 {
		cfg.Peers = t.MasterURLs()
	}
	return cfg
}

// worker returns the configuration of a storage node or a miner.
func (t Topology) worker(r Role, tokens Tokens) roles.WorkerConfig {
	return roles.WorkerConfig{NodeConfig: r.config(tokens), Masters: t.MasterURLs(), WorkerOptions: t.WorkerOptions}
}

func (r Role) config(tokens Tokens) roles.NodeConfig {
	cfg := roles.NodeConfig{Data: r.Data, HTTP: r.HTTP, ClusterToken: tokens.Cluster, Insecure: r.Remote,
		AfterFailedSync: r.AfterFailedSync, SecretFiles: r.Secrets, TLS: r.TLS, TLSGrace: certs.DefaultGrace}
	if r.Advertise != "" {
		cfg.Advertise = r.URL()
	}
	return cfg
}

// file returns the cluster file of the topology.
func (t Topology) file(tokens Tokens) ClusterFile {
	f := ClusterFile{
		Version: clusterFileVersion, Masters: []string{}, Storages: []StorageFile{}, Miners: []string{}, Tokens: tokens,
	}
	if t.TLS {
		f.CA = t.authorityFiles().Cert
	}
	for _, r := range t.Roles() {
		switch r.Kind {
		case KindMaster:
			f.Masters = append(f.Masters, r.URL())
		case KindStorage:
			f.Storages = append(f.Storages, StorageFile{URL: r.URL(), Data: r.Data})
		case KindMiner:
			f.Miners = append(f.Miners, r.URL())
		}
	}
	return f
}
