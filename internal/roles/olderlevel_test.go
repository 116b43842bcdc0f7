package roles

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// impostor answers like a node that knows no sessions, and reports each request except those that open a session.
func impostor(t *testing.T) (url string, sessions <-chan struct{}, tokens <-chan string) {
	t.Helper()
	asked, got := make(chan struct{}, 100), make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathSession {
			select {
			case asked <- struct{}{}:
			default:
			}
		} else if token := r.Header.Get("Authorization"); token != "" {
			select {
			case got <- token:
			default:
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked, got
}

// TestRecordedLevelForbidsTokens starts a master of a group whose other member is replaced by an impostor, so that its
// state stays empty. It must not send the cluster token if it has recorded a level from which nodes prove it.
func TestRecordedLevelForbidsTokens(t *testing.T) {
	for name, level := range map[string]uint64{"below": masterfsm.LevelProofs - 1, "at": masterfsm.LevelProofs} {
		t.Run(name, func(t *testing.T) {
			url, sessions, tokens := impostor(t)
			ports := freePorts(t, 3)
			s := newSeat(t, ports[0], ports[1], []string{"http://" + ports[0], url})
			other := wire.Member{ID: "m-other", URL: url, Raft: ports[2]}
			s.inStore(t, func(store *raftstore.Store) {
				adoption := wire.Adoption{Group: "cs-older", Epoch: 1, Member: s.member.ID,
					Founding: []wire.Member{s.member, other}}
				if err := store.Adopt(adoption); err != nil {
					t.Fatal(err)
				}
			})
			recordLevel(t, s.cfg.Data, level)
			s.cfg.OlderNodes = true
			m := s.run(t)
			timeout := time.After(30 * time.Second)
			if level >= masterfsm.LevelProofs {
				if m.mayBeOlder() || !m.node.RequiresProofs() {
					t.Error("other masters may be of older versions")
				}
				for range 3 {
					select {
					case <-sessions:
					case <-timeout:
						t.Fatal("the impostor is not called")
					}
				}
				select {
				case <-tokens:
					t.Error("the impostor got a token")
				default:
				}
				return
			}
			select {
			case got := <-tokens:
				if got != "Bearer "+s.cfg.ClusterToken {
					t.Errorf("the older node got %q", got)
				}
			case <-timeout:
				t.Error("an older node gets no token")
			}
		})
	}
}

// recordLevel sets the recorded level in the folder of a master, with the file of starts that the level needs.
func recordLevel(t *testing.T, dir string, level uint64) {
	t.Helper()
	starts, err := transport.OpenStarts(filepath.Join(dir, "starts"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := starts.Current(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "master.json")
	var identity map[string]any
	if err := json.Unmarshal([]byte(readFile(t, path)), &identity); err != nil {
		t.Fatal(err)
	}
	identity["level"] = level
	delete(identity, "checksum") // as versions before checksums wrote it
	data, err := json.Marshal(identity)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWorkerTakesTokensOfOlderMasters checks which workers send and accept tokens: those whose folder is of a cluster
// that had older nodes, and new ones with --older-nodes.
func TestWorkerTakesTokensOfOlderMasters(t *testing.T) {
	for name, c := range map[string]struct {
		group          string
		proofs, option bool
		older          bool
	}{
		"new":                            {},
		"new, with --older-nodes":        {option: true, older: true},
		"older cluster":                  {group: "g", older: true},
		"older cluster and option":       {group: "g", option: true, older: true},
		"cluster of proofs":              {group: "g", proofs: true},
		"cluster of proofs, with option": {group: "g", proofs: true, option: true},
	} {
		cfg := DefaultMiner()
		cfg.Data, cfg.HTTP, cfg.Masters = t.TempDir(), "127.0.0.1:0", []string{"http://127.0.0.1:1"}
		cfg.ClusterToken, cfg.OlderNodes, cfg.Logger = "token", c.option, hclog.NewNullLogger()
		id, _, err := worker.LoadIdentity(cfg.Data)
		if err != nil {
			t.Fatal(err)
		}
		if id.Group, id.Proofs = c.group, c.proofs; c.group != "" {
			id.ID, id.AccessToken = "w-1", "access"
		}
		if err := id.Save(cfg.Data); err != nil {
			t.Fatal(err)
		}
		w, err := OpenMiner(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if w.takesBearers() != c.older || w.older != c.older {
			t.Errorf("%s: accepts %v, sends %v", name, w.takesBearers(), w.older)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
