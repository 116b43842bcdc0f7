package roles

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/diskspace"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// NodeConfig holds what every role needs.
type NodeConfig struct {
	Data         string // data folder
	HTTP         string // address to listen on
	Advertise    string // URL at which the other nodes reach this one; "" for the address
	ClusterToken string // where SecretFiles names no file for it
	SecretFiles  secrets.Files
	Insecure     bool // allow addresses other than loopback without TLS
	// OlderNodes lets the node send the cluster token to nodes before protocol level 6, although its data folder is not
	// of such a group. It has no effect on a folder that has recorded level 6.
	OlderNodes bool
	// TLS are the files of certificates. Without them the ports speak HTTP in clear.
	TLS  certs.Files
	mode *certs.Mode // the step of the move to TLS; nil before openMode
	// TLSGrace is how long certificates of other nodes are accepted that are out of their time; 0 for not at all.
	TLSGrace time.Duration
	// AfterFailedSync lets the role use a folder of which a sync failed since the machine was started.
	AfterFailedSync bool
	// MaxConnections bounds the connections to HTTP in total, and MaxConnectionsPerAddress those from one address; 0
	// for the default.
	MaxConnections, MaxConnectionsPerAddress int
	Logger                                   hclog.Logger
}

// MasterConfig configures a master.
type MasterConfig struct {
	NodeConfig
	Raft          string   // address of the raft port
	RaftAdvertise string   // host:port at which the other masters reach the raft port; "" for Raft
	Peers         []string // URLs of all masters; the first founds the group. Empty for a group of one
	Join          []string // URLs of masters whose group this one joins, instead of Peers
	// JoinTicketFile has a ticket that admits a new master to the group of Join; "" for none.
	JoinTicketFile string
	AdminToken     string   // "" for a master of a group whose administrators have named tokens
	SettingsGiven  []string // names of the flags that were given
	AtRestKeys     string   // file with the keys that encrypt the data folder; "" for no encryption
	MasterOptions
}

// MasterOptions are the settings of a master that do not depend on where it runs.
type MasterOptions struct {
	DiskTimeout time.Duration // a slower write of the log or a vote stops the master; 0 for the default
	Timeout     time.Duration // heartbeat, election and lease of raft; 0 for the default
	MaxAge      time.Duration // of the oldest record of the open block; 0 for the default
	// CheckInterval is the time from the end of a storage node's check to its next one; 0 for no checks on a schedule.
	CheckInterval time.Duration
	CheckRate     int64 // bytes of segments that a check reads per second; 0 for no limit
	ReadCache     int64 // bytes of proven records that a master keeps; 0 for none
	TileCache     int64 // bytes of proven hashes of the tree that a master keeps
	Settings      masterfsm.Settings
	Limits        masternode.Limits
	Origin        string   // see masternode.LogConfig
	CheckpointKey string   // file with the private key of masternode.LogConfig; "" for none
	Witnesses     []string // witnesses that the leader asks for cosignatures; see masternode.ParseWitness
	OIDC          oidc.Options
	SpaceOptions
	masterapi.Options
}

// WorkerConfig configures a storage node or a miner.
type WorkerConfig struct {
	NodeConfig
	Masters []string // URLs
	WorkerOptions
}

// SpaceOptions are the limits of the free space under a data folder, in bytes; 0 for none.
type SpaceOptions struct {
	MinFree  int64 // below it, no records or blocks are taken
	WarnFree int64 // below it, status and metrics warn
}

func defaultSpace() SpaceOptions {
	return SpaceOptions{MinFree: diskspace.DefaultMin, WarnFree: diskspace.DefaultWarn}
}

func (o *SpaceOptions) validateSpace() error {
	if o.MinFree < 0 || o.WarnFree < 0 {
		return fmt.Errorf("--min-free %d or --warn-free %d is negative: give 0 for no limit",
			o.MinFree>>20, o.WarnFree>>20)
	}
	return nil
}

func (o *SpaceOptions) limits() diskspace.Limits {
	return diskspace.Limits{Min: o.MinFree, Warn: o.WarnFree}
}

// WorkerOptions are the settings of a worker that do not depend on where it runs.
type WorkerOptions struct {
	Threads      int    // miners: goroutines that search for a nonce
	SegmentBytes int64  // storage nodes: size at which a new segment begins; 0 for the default
	AtRestKeys   string // storage nodes: file with the keys that encrypt the data folder; "" for no encryption
	SpaceOptions        // storage nodes
}

// DefaultMasterOptions returns the options of a master that is started without flags.
func DefaultMasterOptions() MasterOptions {
	return MasterOptions{
		Options:       masterapi.Options{OpenRate: defaultOpenRate},
		CheckInterval: masternode.DefaultCheckInterval, CheckRate: masternode.DefaultCheckRate,
		OIDC:      oidc.Options{ConsoleScopes: oidc.DefaultScopes()},
		ReadCache: masternode.DefaultReadCache, TileCache: masternode.DefaultTileCache,
		Settings: masterfsm.DefaultSettings(), Limits: masternode.DefaultLimits(), SpaceOptions: defaultSpace(),
	}
}

func defaultNode(address string) NodeConfig {
	return NodeConfig{HTTP: address, TLSGrace: certs.DefaultGrace}
}

// DefaultMaster returns the configuration of a master that is started without flags.
func DefaultMaster() MasterConfig {
	return MasterConfig{
		NodeConfig: defaultNode("127.0.0.1:8000"), Raft: "127.0.0.1:8010", MasterOptions: DefaultMasterOptions(),
	}
}

// DefaultStorage returns the configuration of a storage node that is started without flags.
func DefaultStorage() WorkerConfig {
	return WorkerConfig{
		NodeConfig:    defaultNode("127.0.0.1:8082"),
		WorkerOptions: WorkerOptions{SegmentBytes: storagenode.DefaultSegmentBytes, SpaceOptions: defaultSpace()},
	}
}

// DefaultMiner returns the configuration of a miner that is started without flags.
func DefaultMiner() WorkerConfig {
	return WorkerConfig{
		NodeConfig: defaultNode("127.0.0.1:8079"), WorkerOptions: WorkerOptions{Threads: runtime.NumCPU()},
	}
}

const (
	// maxCheckRate bounds CheckRate. No disk is as fast, and it is far from an overflow.
	maxCheckRate = 1 << 20 << 20
	// maxReadCache bounds ReadCache and TileCache. No machine has as much memory.
	maxReadCache = 1 << 20 << 20
	minTileCache = 1 << 20
	// defaultOpenRate is more than a verifier or mirror of the log needs: 1,000 tiles have 256,000 records.
	defaultOpenRate = 1000
	maxOpenRate     = 1_000_000
)

var errNoData = errors.New("a data folder is needed: --data DIR")

func (c *MasterConfig) validate() error {
	if err := c.MasterOptions.Validate(); err != nil {
		return err
	}
	switch {
	case c.Data == "":
		return errNoData
	case c.AdminToken == "" && c.founds():
		return errors.New("the admin token is needed to found a group: --admin-token-file FILE, or " +
			"CHAINSTORE_ADMIN_TOKEN. Masters may be started without it once the group has named admin tokens")
	case len(c.Peers) > 0 && len(c.Join) > 0:
		return errors.New("--peers founds a group, --join joins an existing one: give one of them")
	case c.JoinTicketFile != "" && len(c.Join) == 0:
		return errors.New("--join-ticket-file is of no use without --join: a master of --peers needs no ticket")
	}
	if err := c.checkURLs("--peers", c.Peers); err != nil {
		return err
	}
	if err := c.checkURLs("--join", c.Join); err != nil {
		return err
	}
	return c.checkLoopback("--raft", c.Raft)
}

// founds reports whether the master may found a group: it has no folder yet, and joins no group.
func (c *MasterConfig) founds() bool {
	_, err := os.Stat(filepath.Join(c.Data, "master.json"))
	return errors.Is(err, fs.ErrNotExist) && len(c.Join) == 0
}

// Validate returns an error that names the first option outside its limits.
func (o *MasterOptions) Validate() error {
	switch n := o.Limits.RecordBytes; {
	case o.CheckInterval < 0:
		return fmt.Errorf("--check-interval %v is negative: give 0 for no checks on a schedule", o.CheckInterval)
	case o.CheckRate < 0 || o.CheckRate > maxCheckRate:
		return fmt.Errorf("--check-rate %d is not within 0 and %d MiB a second", o.CheckRate>>20, maxCheckRate>>20)
	case o.ReadCache < 0 || o.ReadCache > maxReadCache:
		return fmt.Errorf("--read-cache %d is not within 0 and %d MiB", o.ReadCache>>20, maxReadCache>>20)
	case o.TileCache < minTileCache || o.TileCache > maxReadCache:
		return fmt.Errorf("--tile-cache %d is not within %d and %d MiB",
			o.TileCache>>20, minTileCache>>20, maxReadCache>>20)
	case o.OpenRate < 0 || o.OpenRate > maxOpenRate:
		return fmt.Errorf("--open-rate %d is not within 0 and %d", o.OpenRate, maxOpenRate)
	case n < 1 || n > wire.MaxRecordBytes:
		return fmt.Errorf("--max-record-bytes %d is not within 1 and %d", n, wire.MaxRecordBytes)
	}
	for _, host := range o.BrowserHosts {
		if u, err := url.Parse("http://" + host); err != nil || host == "" || u.Host != host {
			return fmt.Errorf("--browser-host %q is not a host name, such as log.example", host)
		}
	}
	if err := o.OIDC.Validate(o.OpenRegistration); err != nil {
		return err
	}
	if err := o.validateSpace(); err != nil {
		return err
	}
	return o.Settings.Check()
}

// checkRehearsal refuses, for the folder of a rehearsal, every setting that would make the master call nodes or
// witnesses of the group that was copied, or sign in the name of that group.
func (c *MasterConfig) checkRehearsal(rehearsal bool) error {
	if rehearsal && (len(c.Peers) > 0 || len(c.Join) > 0 || len(c.Witnesses) > 0 || c.Origin != "" ||
		c.CheckpointKey != "") {
		return fmt.Errorf("%s was made for a rehearsal: start it without --peers, --join, --witness, --origin and "+
			"--checkpoint-key", c.Data)
	}
	return nil
}

func (c *WorkerConfig) validate() error {
	switch {
	case c.Data == "":
		return errNoData
	case len(c.Masters) == 0:
		return errors.New("at least one master is needed: --masters URL,…")
	}
	if err := c.checkURLs("--masters", c.Masters); err != nil {
		return err
	}
	return c.validateSpace()
}
