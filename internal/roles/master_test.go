package roles

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// TestMasterRefusesWitnesses checks that a master with witnesses that it cannot use does not start, and creates no
// folder.
func TestMasterRefusesWitnesses(t *testing.T) {
	for _, c := range []struct {
		witnesses []string
		quorum    uint8
		words     string
	}{
		{[]string{"witness.example/w1 https://witness.example"}, 0, "NAME+ID+KEY"},
		{nil, 1, "no checkpoint would ever be shown"},
	} {
		cfg := DefaultMaster()
		cfg.Data, cfg.HTTP, cfg.Raft = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
		cfg.ClusterToken, cfg.AdminToken = "cluster", "admin"
		cfg.Witnesses, cfg.Logger = c.witnesses, hclog.NewNullLogger()
		cfg.Settings.WitnessQuorum = c.quorum
		if _, err := OpenMaster(cfg); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v, %d: %v, want the words %q", c.witnesses, c.quorum, err, c.words)
		}
		if _, err := os.Stat(cfg.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	}
}

// TestMasterWithoutAdminToken checks that a master needs no admin token where a group exists, whose administrators may
// have named ones, and that it founds no group without.
func TestMasterWithoutAdminToken(t *testing.T) {
	cfg := DefaultMaster()
	cfg.Data, cfg.HTTP, cfg.Raft = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	cfg.ClusterToken, cfg.Logger = "cluster", hclog.NewNullLogger()
	open := func() error {
		t.Helper()
		m, err := OpenMaster(cfg)
		if err == nil {
			err = m.Close()
		}
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "needed to found a group") {
		t.Errorf("it may found a group: %v", err)
	}
	if _, err := os.Stat(cfg.Data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	cfg.Join = []string{"http://127.0.0.1:1"}
	if err := open(); err != nil {
		t.Errorf("it joins a group: %v", err)
	}
	cfg.Join = nil
	if err := open(); err != nil {
		t.Errorf("it has a folder: %v", err)
	}
}

// TestJoinBeginsWithTheFolder checks that a master opens its folder before it asks a leader for anything: a leader
// would admit it, and remove the member that had its address.
func TestJoinBeginsWithTheFolder(t *testing.T) {
	var asked atomic.Int64
	leader := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer leader.Close()
	for _, damaged := range []string{"raft.db", "master.json"} {
		cfg := DefaultMaster()
		cfg.Data, cfg.HTTP, cfg.Raft = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
		cfg.ClusterToken, cfg.AdminToken, cfg.Logger = "cluster", "admin", hclog.NewNullLogger()
		cfg.Join = []string{leader.URL}
		path := filepath.Join(cfg.Data, damaged)
		if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMaster(cfg)
		if err == nil {
			_ = m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), damaged) || asked.Load() > 0 {
			t.Errorf("%s is damaged: %v, and the leader was asked %d times", damaged, err, asked.Load())
		}
	}
}

// TestFailureWhileClosing checks that a master ends with the error of a store that fails during a clean stop.
func TestFailureWhileClosing(t *testing.T) {
	failed := make(chan error, 1)
	if err := withLateFailure(nil, failed); err != nil {
		t.Errorf("no failure: %v", err)
	}
	failed <- errSync
	if err := withLateFailure(nil, failed); !errors.Is(err, errSync) || !strings.Contains(err.Error(), "way back") {
		t.Errorf("a failure: %v", err)
	}
	failed <- errSync
	if err := withLateFailure(fmt.Errorf("duties: %w", errSync), failed); strings.Count(err.Error(), "sync") != 1 {
		t.Errorf("a failure that the duties ended with: %v", err)
	}
}

// TestTicketFile checks that a new master does not start without the file of its join ticket, and that a member of a
// group starts, with a warning: it needs no ticket, and operators delete the file. Neither shows the content.
func TestTicketFile(t *testing.T) {
	const warning = "the join ticket is not read; a member of a group needs none"
	ticket, _ := joining.NewTicket()
	for name, c := range map[string]struct {
		text string // "" for no file
		mode os.FileMode
		want string // "" for a file that can be used
	}{
		"good":             {ticket, 0o600, ""},
		"missing":          {"", 0o600, "no such file"},
		"others may read":  {ticket, 0o644, "chmod 600"},
		"no ticket":        {"SECRET", 0o600, "not a join ticket"},
		"only half of one": {ticket[:20], 0o600, "not a join ticket"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "join.ticket")
			if c.text != "" {
				if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, c.mode); err != nil { // independent of the umask
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			open := func(s *seat) error {
				s.cfg.Peers, s.cfg.Join, s.cfg.JoinTicketFile = nil, []string{"http://127.0.0.1:1"}, file
				s.cfg.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: &log})
				m, err := OpenMaster(s.cfg)
				if err == nil {
					err = m.Close()
				}
				return err
			}
			shown := func(text string) bool {
				return strings.Contains(text, c.want) && strings.Contains(text, file) &&
					(c.text == "" || !strings.Contains(text, c.text))
			}
			ports := freePorts(t, 4)
			fresh := newSeat(t, ports[0], ports[1], nil)
			if err := open(fresh); (err == nil) != (c.want == "") || err != nil && !shown(err.Error()) ||
				strings.Contains(log.String(), warning) {
				t.Errorf("a new master: %v, and the log %s", err, &log)
			}
			log.Reset()
			member := newSeat(t, ports[2], ports[3], nil)
			member.inStore(t, func(store *raftstore.Store) {
				adoption := wire.Adoption{Group: "cs-test", Epoch: 1, Member: member.member.ID,
					Founding: []wire.Member{member.member}}
				if err := store.Adopt(adoption); err != nil {
					t.Fatal(err)
				}
			})
			if err := open(member); err != nil {
				t.Errorf("a member: %v", err)
			}
			if got := strings.Contains(log.String(), warning); got != (c.want != "") || got && !shown(log.String()) {
				t.Errorf("a member logs %s", &log)
			}
		})
	}
}
