package devcluster

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
)

// Topology describes a cluster on this machine: on its loopback address, but for roles that have places of their own.
type Topology struct {
	Dir      string // folder of everything: cluster.json, logs/, and a folder for each role
	Port     int    // base: masters from it on, raft from +10, miners from +79, storage nodes from +82
	Masters  int
	Storages int
	Miners   int
	Threads  int           // of each miner
	LogLevel string        // of all roles
	Timeout  time.Duration // of raft; 0 for the default
	// DiskTimeout is how long a write of a master's log may take; 0 for the default. On one disk that all of them share, with all else that
	// a machine does, a stall would end every master at once.
	DiskTimeout time.Duration
	MaxAge      time.Duration // of the oldest record of the open block; 0 for the default
	// CheckInterval and CheckRate are those of roles.MasterConfig.
	CheckInterval time.Duration
	CheckRate     int64
	SegmentBytes  int64 // of storage nodes; 0 for the default
	// Proxied is what is added to the port of each role where the others reach it: something listens there and hands connections on. 0
	// for no such thing.
	Proxied int
	// Places are by their names the roles that run elsewhere than on loopback. nil for none.
	Places map[string]Place
	// HTTP is what this process speaks to the masters through, where they cannot be reached just so; nil for a client of its own.
	HTTP     *http.Client
	Settings masterfsm.Settings
	// OpenRegistration and OriginalAPI are those of roles.MasterConfig.
	OpenRegistration, OriginalAPI bool
	// Origin, CheckpointKey and PrivateLog are those of roles.MasterConfig too.
	Origin, CheckpointKey string
	PrivateLog            bool
	Witnesses             []string
	// Profiles is the base port of Go profiles, one a role from it on, in the order of Roles; 0 for none. Roles in one process
	// serve none.
	Profiles int
}

// NewTopology is the cluster that `chainstore dev` starts: three masters, three storage nodes, one miner.
func NewTopology(dir string, port int) Topology {
	return Topology{
		Dir: dir, Port: port, Masters: 3, Storages: 3, Miners: 1, Threads: 1, LogLevel: "info",
		DiskTimeout: 10 * time.Second, CheckInterval: masternode.DefaultCheckInterval, CheckRate: masternode.DefaultCheckRate, Settings: masterfsm.DefaultSettings(),
		OpenRegistration: true, OriginalAPI: true,
	}
}

// Offsets of the ports of each kind of role from the base.
const (
	raftOffset    = 10
	minerOffset   = 79
	storageOffset = 82
)

// Kind is what a role of the cluster is; its text is the subcommand that runs it.
type Kind string

// The kinds of role.
const (
	KindMaster  Kind = "master"
	KindStorage Kind = "storage"
	KindMiner   Kind = "miner"
)

// Place is where a role runs that this machine's loopback address is not for: a network namespace, say.
type Place struct {
	Host string // the IP address that it listens on and is reached at
	// Enter is what its command line begins with, in front of the executable: a program that goes there and becomes (exec) what follows.
	// Roles in one process cannot have it.
	Enter []string
}

// Role is one role of a topology.
type Role struct {
	Name string // "master-1"
	Kind Kind
	Data string // its folder, absolute
	Log  string // its log file, absolute
	HTTP string // host:port
	Raft string // host:port, of a master
	// Advertise and RaftAdvertise are where others reach it, host:port, where that is not HTTP and Raft.
	Advertise, RaftAdvertise string
	// Join are the URLs of masters whose group a master is to join, in the place of the topology's; nil for a founding master.
	Join []string
	// Profiles is where its Go profiles are served, host:port, "" where they are not.
	Profiles string
	// Place is where it runs; zero for loopback. With a host it is started with --insecure.
	Place Place
}

// URL is where the role is reached.
func (r Role) URL() string { return "http://" + cmp.Or(r.Advertise, r.HTTP) }

// advertised is the URL that the role is to tell, "" for that of HTTP.
func (r Role) advertised() string {
	if r.Advertise == "" {
		return ""
	}
	return r.URL()
}

func (t Topology) validate() error {
	switch {
	case t.Dir == "" || !filepath.IsAbs(t.Dir):
		return fmt.Errorf("the cluster's folder must be an absolute path, not %q", t.Dir)
	case t.Masters < 1 || t.Masters > raftOffset || t.Storages < 0 || t.Miners < 0 || t.Miners > storageOffset-minerOffset:
		return fmt.Errorf("%d masters, %d storage nodes and %d miners do not fit the ports", t.Masters, t.Storages, t.Miners)
	case t.Port < 1 || t.Port+storageOffset+t.Storages > 65536:
		return fmt.Errorf("--port %d: ports %d to %d must lie within 1 and 65535", t.Port, t.Port, t.Port+storageOffset+t.Storages-1)
	}
	return t.Settings.Check()
}

// Roles lists all roles, the masters first.
func (t Topology) Roles() []Role {
	var roles []Role
	add := func(kind Kind, n, offset int) {
		for i := range n {
			name := fmt.Sprintf("%s-%d", kind, i+1)
			place := t.Places[name]
			address := func(offset int) string {
				return net.JoinHostPort(cmp.Or(place.Host, "127.0.0.1"), strconv.Itoa(t.Port+offset))
			}
			role := Role{
				Name: name, Kind: kind, Data: filepath.Join(t.Dir, name), Log: filepath.Join(t.Dir, "logs", name+".log"),
				HTTP: address(offset + i), Place: place,
			}
			if t.Proxied != 0 {
				role.Advertise = address(t.Proxied + offset + i)
			}
			if kind == KindMaster {
				role.Raft = address(raftOffset + i)
				if t.Proxied != 0 {
					role.RaftAdvertise = address(t.Proxied + raftOffset + i)
				}
			}
			if t.Profiles > 0 {
				role.Profiles = net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Profiles+len(roles)))
			}
			roles = append(roles, role)
		}
	}
	add(KindMaster, t.Masters, 0)
	add(KindStorage, t.Storages, storageOffset)
	add(KindMiner, t.Miners, minerOffset)
	return roles
}

// MasterURLs lists the masters' URLs.
func (t Topology) MasterURLs() []string {
	var urls []string
	for _, r := range t.Roles() {
		if r.Kind == KindMaster {
			urls = append(urls, r.URL())
		}
	}
	return urls
}

// file is the cluster file of the topology.
func (t Topology) file(tokens Tokens) ClusterFile {
	f := ClusterFile{Version: clusterFileVersion, Masters: []string{}, Storages: []StorageFile{}, Miners: []string{}, Tokens: tokens}
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
