package roles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// shortQuiet replaces wire.RecoveryQuiet.
const shortQuiet = 100 * time.Millisecond

// folder writes the log into the folder of a master of group "g", and returns the folder and the master's id.
func (l *survivorLog) folder() (dir, member string) {
	l.t.Helper()
	dir = l.t.TempDir()
	store, err := raftstore.Open(raftstore.Config{Dir: dir, Bind: "127.0.0.1:0", Secret: tokenOnly})
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			l.t.Error(err)
		}
	}()
	if err := store.Found("g", []wire.Member{store.Member()}); err != nil {
		l.t.Fatal(err)
	}
	for _, command := range l.log {
		for {
			changed := store.LeaderChanged()
			_, err := store.Propose(l.t.Context(), command)
			if errors.Is(err, wire.ErrNotLeader) {
				<-changed // of the leadership
				continue
			}
			if err != nil {
				l.t.Fatal(err)
			}
			break
		}
	}
	return dir, store.Member().ID
}

// answering returns the URL of a master that always returns the same response.
func answering(t *testing.T, status int, m wire.Member) string {
	server := httptest.NewServer(olderFunc(func(w http.ResponseWriter, _ *http.Request) {
		var body any = m
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if status != http.StatusOK {
			w.Header().Set("Content-Type", wire.TypeProblem)
			name := map[int]string{http.StatusUnauthorized: wire.ErrUnauthorized.Name,
				http.StatusNotFound:           wire.ErrNotFound.Name,
				http.StatusServiceUnavailable: wire.ErrStaleFolder.Name}[status]
			body = wire.Problem{Type: wire.ProblemBase + name, Title: "no", Status: status}
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// nowhere is a URL without a listener.
const nowhere = "http://127.0.0.1:1"

// TestRecoverAsksTheMasters checks that a group with a master that replies is not replaced, and that masters that do
// not reply must be named as dead.
func TestRecoverAsksTheMasters(t *testing.T) {
	for name, c := range map[string]struct {
		url  func(t *testing.T) string // of master m2
		dead []string
		says string // in the error, "" for none
	}{
		"one that lives": {func(t *testing.T) string {
			return answering(t, 200, wire.Member{ID: "m2",
				Group: "g", Epoch: 1})
		}, []string{"m3"}, "m2 at"},
		"one that lives and is named": {func(t *testing.T) string {
			return answering(t, 200, wire.Member{ID: "m2",
				Group: "g", Epoch: 1})
		}, []string{"m2", "m3"}, "although it was named"},
		"another of the group": {func(t *testing.T) string {
			return answering(t, 200, wire.Member{ID: "m9",
				Group: "g", Epoch: 2})
		}, []string{"m2", "m3"}, "master m9 of the same group, at epoch 2"},
		"one that takes another token": {func(t *testing.T) string { return answering(t, 401, wire.Member{}) },
			[]string{"m2", "m3"}, "but not with its id"},
		"one that was refused as an older copy": {func(t *testing.T) string {
			return answering(t, 503, wire.Member{})
		}, []string{"m2", "m3"}, "but not with its id"},
		"a worker at the old one's place": {func(t *testing.T) string { return answering(t, 404, wire.Member{}) },
			[]string{"m2", "m3"}, ""},
		"a worker at the place of one that is not named": {func(t *testing.T) string {
			return answering(t, 404, wire.Member{})
		}, []string{"m3"}, "add: --dead m2"},
		"silent and not named": {func(*testing.T) string { return nowhere }, nil,
			"add: --dead m2 --dead m3"},
		"one of them not named": {func(*testing.T) string { return nowhere }, []string{"m2"},
			"add: --dead m3"},
		"unknown": {func(*testing.T) string { return nowhere }, []string{"m2", "m3", "m4"},
			"--dead m4: the table has no such master"},
		"named by id": {func(*testing.T) string { return nowhere }, []string{"m2", "m3"}, ""},
		"named by URL and raft address": {func(*testing.T) string { return nowhere }, []string{nowhere + "/",
			"127.0.0.1:3"}, ""},
		"a new one at the old one's place": {func(t *testing.T) string {
			return answering(t, 200,
				wire.Member{ID: "new"})
		}, []string{"m2", "m3"}, ""},
		"another group's at the old place": {func(t *testing.T) string {
			return answering(t, 200,
				wire.Member{ID: "m2x", Group: "h"})
		}, []string{"m2", "m3"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newChainNode(t, "d1")
			l := newSurvivor(t, d)
			l.apply(&masterfsm.AdmitMaster{ID: "m2", URL: c.url(t), Raft: "127.0.0.1:2", Time: startTime})
			l.apply(&masterfsm.AdmitMaster{ID: "m3", URL: "http://127.0.0.1:2", Raft: "127.0.0.1:3", Time: startTime})
			dir, member := l.folder()
			before := readFile(t, filepath.Join(dir, "master.json"))
			done, err := RecoverMaster(t.Context(), RecoverConfig{
				Data: dir, Raft: "127.0.0.1:9", Secret: []string{"token"}, OlderNodes: true, Dead: c.dead,
				Confirm: func(Recovery) error { return nil },
			})
			if c.says == "" {
				if err != nil || done.Epoch != 2 || done.Member != member || len(d.raised) != 1 ||
					d.raised[0].Epoch != 2 || d.raised[0].Keep != nil {
					t.Errorf("recovered %+v, %v, raised %+v", done, err, d.raised)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if len(d.raised) > 0 || readFile(t, filepath.Join(dir, "master.json")) != before {
				t.Error("something was changed")
			}
		})
	}
}

// TestRecoverWhereSomethingAnswers checks that a recovery changes nothing if there is any answer at the URL of a master
// that is not certainly one of another ChainStore process: it may be the master behind a proxy, or in another version.
// A connection that is refused or closed is no answer.
func TestRecoverWhereSomethingAnswers(t *testing.T) {
	const page = "<html><body>Please log in.</body></html>"
	member := `{"id":"m2","group":"g","epoch":1}`
	other := `{"id":"m9","group":"h","epoch":1}`
	for name, c := range map[string]struct {
		status      int
		media, body string
		length      string // Content-Length, "" for the right one
		secure      bool   // with a certificate that is not trusted here
		dead        bool
	}{
		"a page":                   {status: 200, media: "text/html", body: page},
		"an empty object":          {status: 200, media: "application/json", body: "{}"},
		"null":                     {status: 200, media: "application/json", body: "null"},
		"nothing":                  {status: 200},
		"no content":               {status: 204},
		"the member as a text":     {status: 200, media: "text/plain", body: member},
		"a member with status 203": {status: 203, media: "application/json", body: other},
		"another member as a page": {status: 200, media: "text/html", body: other},
		"no id":                    {status: 200, media: "application/json", body: `{"group":"h","epoch":1}`},
		"part of a member":         {status: 200, media: "application/json", body: member[:9], length: "99"},
		"half a member":            {status: 200, media: "application/json", body: member[:9]},
		"a redirect":               {status: 302, media: "text/html", body: page},
		"a bad request":            {status: 400, media: "text/plain", body: "HTTPS, please"},
		"a 401 of a proxy":         {status: 401, media: "text/html", body: page},
		"a 404 of a proxy":         {status: 404, media: "text/html", body: page},
		"too many requests":        {status: 429, media: "text/html", body: page},
		"an error of a proxy":      {status: 502, media: "text/html", body: page},
		"an error of the master": {status: 500, media: wire.TypeProblem,
			body: `{"type":"` + wire.ProblemBase + `internal"}`},
		"a long answer":             {status: 200, media: "application/json", body: strings.Repeat(" ", 2<<20)},
		"an unknown certificate":    {status: 200, media: "application/json", body: member, secure: true},
		"a connection that is shut": {dead: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.dead {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", c.media)
				if c.length != "" {
					w.Header().Set("Content-Length", c.length)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
				if c.length != "" {
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
			})
			server := httptest.NewUnstartedServer(serve)
			if !c.dead {
				server.Config.Handler = older(serve)
			}
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			if c.secure {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			r := &recovery{cfg: RecoverConfig{Dead: []string{"m2"}}}
			r.plan.Group = "g"
			r.masters = recoveryCalls()
			err := r.lives(t.Context(), oldMaster{id: "m2", url: server.URL})
			if (err == nil) != c.dead {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestRecoverACopyOfALivingMaster checks that a copy of the folder of a running master is not recovered.
func TestRecoverACopyOfALivingMaster(t *testing.T) {
	d := newChainNode(t, "d1")
	l := newSurvivor(t, d)
	dir, member := l.folder()
	url := answering(t, 200, wire.Member{ID: member, Group: "g", Epoch: 1})
	inFolder(t, dir, func(store *raftstore.Store) error {
		_, err := store.Propose(t.Context(), masterfsm.Encode(&masterfsm.AdmitMaster{ID: member, URL: url,
			Raft: "127.0.0.1:2", Time: startTime}))
		return err
	})
	_, err := RecoverMaster(t.Context(), RecoverConfig{
		Data: dir, Raft: "127.0.0.1:9", Secret: []string{"token"}, OlderNodes: true,
		Confirm: func(Recovery) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "master "+member+" at") || len(d.raised) > 0 {
		t.Errorf("%v", err)
	}
}

// inFolder opens the store of a master that is the only member of its group, and retries until it leads.
func inFolder(t *testing.T, dir string, do func(*raftstore.Store) error) {
	t.Helper()
	store, err := raftstore.Open(raftstore.Config{Dir: dir, Bind: "127.0.0.1:0", Secret: tokenOnly})
	if err != nil {
		t.Fatal(err)
	}
	for {
		changed := store.LeaderChanged()
		if err = do(store); !errors.Is(err, wire.ErrNotLeader) {
			break
		}
		<-changed
	}
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRecoverAwaitsQuiet checks that a recovery waits for a storage node that had a recent order, and fails if the node
// gets another one meanwhile. A start of the node does not count as an order.
func TestRecoverAwaitsQuiet(t *testing.T) {
	for name, c := range map[string]struct {
		orders  bool // orders continue
		ordered bool
		says    string
	}{
		"orders of before": {false, true, ""},
		"started lately":   {false, false, ""},
		"orders go on":     {true, true, "had an order of a leader just now"},
		"starts go on":     {true, false, "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
			l := newSurvivor(t, d1, d2)
			last := time.Now()
			d2.status.Ordered = c.ordered
			d2.quiet = func() time.Duration {
				if c.orders && time.Since(last) > 700*time.Millisecond {
					last = time.Now()
				}
				return time.Since(last)
			}
			var waited atomic.Int64
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			if name == "starts go on" {
				ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
			}
			defer cancel()
			r := &recovery{folder: l, masters: recoveryCalls(), cfg: RecoverConfig{
				quiet: 1200 * time.Millisecond,
				Waiting: func(w Waiting) {
					if w.Node != d2.url || w.Ordered != c.ordered || w.Since >= w.Need {
						t.Errorf("waits for %+v", w)
					}
					waited.Add(1)
				},
			}}
			r.plan.Group, r.plan.Epoch = "g", 1
			err := r.askAll(ctx)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if waited.Load() == 0 {
				t.Error("it did not say that it waits")
			}
		})
	}
}

// TestRecoverNeedsAMajority checks that omitted nodes count towards the total, and that the loss of a majority needs an
// explicit option. Nodes that are not omitted must reply, and nodes of an older version cannot confirm anything.
func TestRecoverNeedsAMajority(t *testing.T) {
	for _, c := range []struct {
		name    string
		nodes   int
		without []string
		lost    bool
		says    string
	}{
		{"all of three", 3, nil, false, ""},
		{"two of three", 3, []string{"d1"}, false, ""},
		{"one of three", 3, []string{"d1", "d2"}, false, "1 of the table's 3 storage nodes"},
		{"one of three, the others destroyed", 3, []string{"d1", "d2"}, true, ""},
		{"one of two", 2, []string{"d1"}, false, "1 of the table's 2 storage nodes"},
		{"one of two, the other destroyed", 2, []string{"d1"}, true, ""},
		{"the only one", 1, nil, false, ""},
		{"none of one", 1, []string{"d1"}, false, "0 of the table's 1 storage nodes"},
		{"no storage nodes", 0, nil, false, "no storage node to confirm"},
		{"lost, and one that is not left out is silent", 3, []string{"d1"}, true, "d3 is silent"},
		{"an older version", 3, nil, false, "d3 is old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var nodes []*chainNode
			for i := range c.nodes {
				nodes = append(nodes, newChainNode(t, fmt.Sprint("d", i+1)))
			}
			l := newSurvivor(t, nodes...)
			want := c.says
			switch c.says {
			case "d3 is silent":
				l.apply(&masterfsm.Register{Role: masterfsm.RoleStorage, ID: "d3", URL: nowhere, Boot: "2",
					Time: startTime})
				want = nowhere + " does not report its chain"
			case "d3 is old":
				old := httptest.NewServer(olderFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(`{"id":"d3","group":"g","epoch":1,"height":0}`))
				}))
				defer old.Close()
				l.apply(&masterfsm.Register{Role: masterfsm.RoleStorage, ID: "d3", URL: old.URL, Boot: "2",
					Time: startTime})
				want = old.URL + " runs a version that does not report when"
			}
			_, err := recoverWith(t, l, RecoverConfig{Without: c.without, StorageLost: c.lost})
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// TestRecoverRaisesTheEpochFirst checks that the storage nodes store the new epoch before the folder changes. If one
// refuses, the folder must not change, and the next recovery must use an epoch above those that the others stored.
func TestRecoverRaisesTheEpochFirst(t *testing.T) {
	d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
	l := newSurvivor(t, d1, d2)
	l.grow(2, "record")
	d1.has(l.blocks())
	d2.has(l.blocks())
	dir, _ := l.folder()
	identity := filepath.Join(dir, "master.json")
	before := readFile(t, identity)
	cfg := RecoverConfig{Data: dir, Raft: "127.0.0.1:9", Secret: []string{"token"}, OlderNodes: true,
		Confirm: func(Recovery) error { return nil }}
	d2.refuse = http.StatusForbidden
	if _, err := RecoverMaster(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), d2.url) ||
		!strings.Contains(err.Error(), "run this command again") {
		t.Errorf("with a node that refuses: %v", err)
	}
	if readFile(t, identity) != before || len(d1.raised) != 1 {
		t.Errorf("the folder was changed, or node d1 was not asked: %+v", d1.raised)
	}
	d2.refuse = 0
	cfg.Confirm = func(Recovery) error { // a block was added while the user was deciding
		l.grow(1, "late")
		d1.mu.Lock()
		defer d1.mu.Unlock()
		d1.has(l.blocks())
		return nil
	}
	if _, err := RecoverMaster(t.Context(), cfg); err == nil || !strings.Contains(err.Error(),
		"changed since it was asked, from 2 blocks to 3") || readFile(t, identity) != before {
		t.Errorf("with a block that came in: %v", err)
	}
	cfg.Confirm = func(Recovery) error { return nil }
	done, err := RecoverMaster(t.Context(), cfg)
	if err != nil || done.Epoch != 4 || done.ChainHeight != 3 || readFile(t, identity) == before {
		t.Errorf("%+v, %v", done, err)
	}
	for _, d := range []*chainNode{d1, d2} {
		last := d.raised[len(d.raised)-1]
		if last.Epoch != 4 || last.Claim == "" || last.Claim == d.raised[0].Claim || d.status.Epoch != 4 {
			t.Errorf("%s has %+v", d.status.ID, d.raised)
		}
	}
}

// TestRecoverAnEarlierEpoch checks that an explicit option is needed to choose the group if storage nodes had orders of
// a leader of a later epoch.
func TestRecoverAnEarlierEpoch(t *testing.T) {
	d := newChainNode(t, "d1")
	d.status.Epoch = 2
	d.ledIn(2)
	l := newSurvivor(t, d)
	for _, cfg := range []RecoverConfig{{}, {ResumeRecovery: 2}} { // a leader of that epoch did exist
		if _, err := recoverWith(t, l, cfg); err == nil || !strings.Contains(err.Error(), "--undo-recovery") {
			t.Errorf("%v", err)
		}
	}
	d.ledIn(1) // a recovery was interrupted: that epoch had no leader
	if r, err := recoverWith(t, l, RecoverConfig{}); err != nil || r.plan.Epoch != 3 {
		t.Errorf("%+v, %v", r.plan, err)
	}
}

// TestRecoverWhereTheLastLeaderIsNotKnown checks a storage node that has stored a later epoch than the folder's, and
// does not know the last leader. This is ambiguous, so an option must state that the recovery to that epoch was
// interrupted.
func TestRecoverWhereTheLastLeaderIsNotKnown(t *testing.T) {
	d := newChainNode(t, "d1")
	d.status.Epoch, d.status.LedEpoch = 3, nil
	for _, c := range []struct {
		cfg  RecoverConfig
		undo uint64
		says string // in the error, "" for none
	}{
		{RecoverConfig{}, 0, "--resume-recovery 3"},
		{RecoverConfig{ResumeRecovery: 2}, 0, "--resume-recovery 3"},
		{RecoverConfig{ResumeRecovery: 3}, 0, ""},
		{RecoverConfig{UndoRecovery: true}, 3, ""},
	} {
		r, err := recoverWith(t, newSurvivor(t, d), c.cfg)
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) ||
			c.says == "" && (err != nil || r.plan.Epoch != 4 || r.plan.Undo != c.undo) {
			t.Errorf("%+v: %+v, %v", c.cfg, r.plan, err)
		}
	}
	d.status.Epoch = 1 // the folder's own epoch: no other group had it
	if _, err := recoverWith(t, newSurvivor(t, d), RecoverConfig{}); err != nil {
		t.Error(err)
	}
}

// TestRecoverAnEpochThatIsTooHigh checks that an epoch above the maximum is refused before anything else, and that the
// error names the node that has it.
func TestRecoverAnEpochThatIsTooHigh(t *testing.T) {
	for _, epoch := range []uint64{masterfsm.MaxEpoch, math.MaxUint64} {
		d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
		d2.status.Epoch = epoch
		l := newSurvivor(t, d1, d2)
		for _, undo := range []bool{false, true} {
			_, err := recoverWith(t, l, RecoverConfig{UndoRecovery: undo})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("storage node %s has stored epoch %d", d2.url,
				epoch)) || !strings.Contains(err.Error(), "fence") {
				t.Errorf("%v", err)
			}
		}
	}
	d := newChainNode(t, "d1")
	d.status.Epoch = masterfsm.MaxEpoch - 1
	if r, err := recoverWith(t, newSurvivor(t, d), RecoverConfig{}); err != nil || r.plan.Epoch != masterfsm.MaxEpoch {
		t.Errorf("the last epoch: %+v, %v", r.plan, err)
	}
}

// TestRecoverAsksTheTablesNodes checks nodes that are at a URL of the table but have another id, for example after
// their disks were wiped. They do not count towards the majority or as copies of blocks.
func TestRecoverAsksTheTablesNodes(t *testing.T) {
	for _, c := range []struct {
		name    string
		wiped   []int
		without []int
		lost    bool
		says    string
	}{
		{"one of three wiped", []int{1}, nil, false, "--without"},
		{"one of three wiped and left out", []int{1}, []int{1}, false, ""},
		{"two of three wiped", []int{1, 2}, nil, false, "--storage-majority-lost"},
		{"two of three wiped, the other one left out", []int{1, 2}, []int{0}, false, "--storage-majority-lost"},
		{"two of three wiped and left out", []int{1, 2}, []int{1, 2}, false, "1 of the table's 3 storage nodes"},
		{"two of three wiped, and a person says so", []int{1, 2}, nil, true, ""},
	} {
		nodes := []*chainNode{newChainNode(t, "d1"), newChainNode(t, "d2"), newChainNode(t, "d3")}
		l := newSurvivor(t, nodes...)
		nodes[1].status.ID, nodes[2].status.ID = "d2", "d3"
		var others []string
		for _, i := range c.wiped {
			nodes[i].status = wire.ChainStatus{}
			others = append(others, nodes[i].url)
		}
		cfg := RecoverConfig{StorageLost: c.lost}
		for _, i := range c.without {
			cfg.Without = append(cfg.Without, nodes[i].url)
			others = slices.DeleteFunc(others, func(url string) bool { return url == nodes[i].url })
		}
		r, err := recoverWith(t, l, cfg)
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) || c.says == "" && err != nil {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		for _, url := range others {
			if err != nil && !strings.Contains(err.Error(), url) {
				t.Errorf("%s: %s is not named: %v", c.name, url, err)
			}
		}
		if !slices.Equal(r.plan.Others, others) {
			t.Errorf("%s: others %v, want %v", c.name, r.plan.Others, others)
		}
	}
}

// TestUndoRecovery undoes a mistaken recovery whose group has mined other blocks, or put records in place of those that
// this group had acknowledged. The blocks of this folder are used, and blocks that contradict them are moved aside.
// Other blocks are kept.
func TestUndoRecovery(t *testing.T) {
	for _, c := range []struct {
		name     string
		own      func(*survivorLog) // acknowledged by the real group since then
		other    func(*survivorLog) // done by the mistaken group
		replaced bool
		from     uint64
	}{
		{"another block", func(l *survivorLog) { l.grow(1, "real") }, func(l *survivorLog) { l.grow(3, "mistaken") },
			true, 2},
		{"another block, fewer", func(l *survivorLog) { l.grow(3, "real") }, func(l *survivorLog) {
			l.grow(1,
				"mistaken")
		}, true, 2},
		{"records in the open block", func(l *survivorLog) { l.append(2, "real") }, func(l *survivorLog) {
			l.grow(1,
				"mistaken")
		}, true, 2},
		{"records behind a block that waits", func(l *survivorLog) { l.append(6, "real") },
			func(l *survivorLog) { l.grow(2, "mistaken") }, true, 2},
		{"nothing", func(*survivorLog) {}, func(l *survivorLog) { l.grow(2, "mistaken") }, false, 0},
		{"nothing that the others do not have", func(l *survivorLog) { l.append(2, "same") },
			func(l *survivorLog) { l.append(2, "same"); l.append(2, "more"); l.mine(0) }, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d1, d2 := newChainNode(t, "d1"), newChainNode(t, "d2")
			l := newSurvivor(t, d1, d2)
			l.grow(2, "common")
			other := l.fork()
			d2.has(l.blocks())
			c.own(l)
			c.other(other)
			d1.has(other.blocks())
			d1.status.Epoch = 3
			d1.ledIn(2) // and an interrupted recovery has raised it
			next := l.state.NextIndex()

			r, err := recoverWith(t, l, RecoverConfig{UndoRecovery: true})
			if err != nil {
				t.Fatal(err)
			}
			if r.plan.Undo != 2 || r.plan.Epoch != 4 || r.plan.Dropped != 0 || r.state().NextIndex() < next ||
				r.plan.Forked {
				t.Errorf("%+v", r.plan)
			}
			if want := []ReplacedChain{{URL: d1.url, From: c.from, To: uint64(len(other.blocks()))}}; c.replaced &&
				!slices.Equal(r.plan.Replaced, want) || !c.replaced && len(r.plan.Replaced) > 0 {
				t.Errorf("replaced %+v, want %+v: %v", r.plan.Replaced, want, c.replaced)
			}
			if err := r.raise(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c.replaced && uint64(len(d1.blocks)) != c.from || !c.replaced &&
				len(d1.blocks) != len(other.blocks()) || len(d2.blocks) != 2 {
				t.Errorf("the nodes have %d and %d blocks", len(d1.blocks), len(d2.blocks))
			}
		})
	}
}

// counter listens on a port and counts the connections.
func counter(t *testing.T) (address string, made *atomic.Int64) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	made = &atomic.Int64{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			made.Add(1)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String(), made
}

// TestRehearsal checks that neither a rehearsal nor the master that is started on it contacts any node of the copied
// group.
func TestRehearsal(t *testing.T) {
	var all []*atomic.Int64
	address := func() string {
		a, made := counter(t)
		all = append(all, made)
		return a
	}
	l := newSurvivor(t)
	l.apply(&masterfsm.Register{Role: masterfsm.RoleStorage, ID: "d1", URL: "http://" + address(), MasterToken: "x",
		Time: startTime})
	l.apply(&masterfsm.Register{Role: masterfsm.RoleMiner, ID: "w1", URL: "http://" + address(), MasterToken: "x",
		Time: startTime})
	l.apply(&masterfsm.AdmitMaster{ID: "m2", URL: "http://" + address(), Raft: address(), Time: startTime})
	own := address()
	l.grow(2, "record")
	l.append(2, "open")
	dir, member := l.folder()
	inFolder(t, dir, func(store *raftstore.Store) error {
		_, err := store.Propose(t.Context(), masterfsm.Encode(&masterfsm.AdmitMaster{ID: member, URL: "http://" + own,
			Raft: address(), Time: startTime}))
		return err
	})
	ports := freePorts(t, 2)
	done, err := RecoverMaster(t.Context(), RecoverConfig{
		Data: dir, Raft: ports[0], Secret: []string{"rehearsal"}, Rehearsal: true, Logger: hclog.NewNullLogger(),
		Confirm: func(r Recovery) error {
			if !r.Rehearsal || r.Group == "g" || r.Member == member || len(r.Lost) > 0 {
				t.Errorf("the plan is %+v", r)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newSeat(t, ports[1], ports[0], nil)
	s.cfg.Data, s.cfg.ClusterToken = dir, "rehearsal"
	for what, change := range map[string]func(*MasterConfig){
		"another cluster token": func(c *MasterConfig) { c.ClusterToken = "token" },
		"--peers":               func(c *MasterConfig) { c.Peers = []string{"http://" + c.HTTP, "http://" + own} },
		"--join":                func(c *MasterConfig) { c.Join = []string{"http://" + own} },
		"--origin":              func(c *MasterConfig) { c.Origin = "example.com/log" },
	} {
		cfg := s.cfg
		change(&cfg)
		if m, err := OpenMaster(cfg); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("with %s: %v", what, err)
			if err == nil {
				_ = m.Close()
			}
		}
	}
	m, stop := s.start(t)
	defer stop()
	deadline := time.After(30 * time.Second)
	for { // until its leader has finished its first checks, and has founded another log
		if log, err := m.node.Log(t.Context()); err == nil && len(log.Keys) > 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("it founds no log")
		case <-time.After(10 * time.Millisecond):
		}
	}
	cluster := m.node.Cluster(t.Context())
	if len(cluster.Masters) != 1 || len(cluster.Storages) != 0 || len(cluster.Miners) != 0 ||
		m.store.Member().Group != done.Group {
		t.Errorf("%+v", cluster)
	}
	if log, err := m.node.Log(t.Context()); err != nil || strings.Contains(log.Origin, "example.com") {
		t.Errorf("%+v, %v", log, err)
	}
	var next uint64
	m.store.Read(func(s *masterfsm.State) { next = s.NextIndex() })
	if next < l.state.NextIndex() { // acts of the rehearsal are recorded, too
		t.Errorf("the next record gets index %d, not %d", next, l.state.NextIndex())
	}
	for i, made := range all {
		if n := made.Load(); n > 0 {
			t.Errorf("address %d of the old table was called %d times", i, n)
		}
	}
}

// TestAnsweredRegistrationsAreSignsOfLife checks that a reply to a registration counts as contact only if it must come
// from a leader.
func TestAnsweredRegistrationsAreSignsOfLife(t *testing.T) {
	for _, c := range []struct {
		status int
		body   any
		sign   bool
	}{
		{http.StatusOK, wire.Registered{ID: "s-1", Group: "g"}, true},
		{http.StatusConflict, wire.OtherStart{Problem: wire.Problem{Type: wire.ProblemBase + wire.ErrOtherStart.Name,
			Title: "no", Status: http.StatusConflict}, Start: "a"}, true},
		{http.StatusServiceUnavailable, wire.Problem{Type: wire.ProblemBase + wire.ErrNoLeader.Name, Title: "no",
			Status: http.StatusServiceUnavailable}, false},
		{http.StatusNotFound, wire.Problem{Type: wire.ProblemBase + wire.ErrNotFound.Name, Title: "no",
			Status: http.StatusNotFound}, false},
	} {
		server := httptest.NewServer(olderFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if c.status != http.StatusOK {
				w.Header().Set("Content-Type", wire.TypeProblem)
			}
			w.WriteHeader(c.status)
			_ = json.NewEncoder(w).Encode(c.body)
		}))
		b, masters, before := &Worker{}, recoveryCalls(), time.Now()
		_, err := b.register(t.TempDir(), masters)(t.Context(), server.URL, wire.Registration{})
		if (err == nil) != (c.status == http.StatusOK) || b.lastAnswer().IsZero() == c.sign ||
			c.sign && b.lastAnswer().Before(before) {
			t.Errorf("status %d: %v, last answer %v", c.status, err, b.lastAnswer())
		}
		masters.CloseIdle()
		server.Close()
	}
}

// tokenOnly returns the values of the secret in these tests.
func tokenOnly() []string { return []string{"token"} }
