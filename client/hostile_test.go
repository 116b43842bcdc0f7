package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
)

// clientCalls are all calls of a client that need an answer, in an order in which a fake cluster can answer them. large
// are those that accept large answers. Some share the form of their answer: such an answer, of the right content, is no
// wrong answer.
type clientCall struct {
	name  string
	large bool
	form  string
	call  func(ctx context.Context, c *Client) error
}

func one[T any](_ T, err error) error { return err }

func clientCalls(c *fakecluster.Cluster) []clientCall {
	entry := Entry{Payload: []byte("payload"), Key: "k", Type: "text/plain"}
	type ctx = context.Context
	leaf := c.Position(&c.Records[0]).Leaf
	block := c.Integrity.Lost[0].From
	c.Waiting = []wire.WaitingWorker{{ID: "s-7", Role: "storage", URL: "http://127.0.0.1:8085", Since: 1}}
	return []clientCall{
		{"Append", false, "position", func(x ctx, c *Client) error { return one(c.Append(x, entry)) }},
		{"AppendWait", false, "position", func(x ctx, c *Client) error { return one(c.AppendWait(x, entry, 1)) }},
		{"AppendBatch", false, "positions", func(x ctx, c *Client) error {
			return one(c.AppendBatch(x, []Entry{entry, entry}, ""))
		}},
		{"OpenAppendStream", false, "opened stream", func(x ctx, c *Client) error {
			return one(c.OpenAppendStream(x))
		}},
		{"AppendStreams", false, "streams", func(x ctx, c *Client) error { return one(c.AppendStreams(x, "", 0)) }},
		{"AppendStreamState", false, "stream state", func(x ctx, c *Client) error {
			return one(c.AppendStreamState(x, "doors"))
		}},
		{"Get", true, "record", func(x ctx, c *Client) error { return one(c.Get(x, 0, 0)) }},
		{"GetIndex", true, "record", func(x ctx, c *Client) error { return one(c.GetIndex(x, 0)) }},
		{"Blocks", false, "blocks", func(x ctx, c *Client) error { return one(c.Blocks(x, "", 2)) }},
		{"Block", false, "block", func(x ctx, c *Client) error { return one(c.Block(x, 0)) }},
		{"ListPage", true, "records", func(x ctx, c *Client) error { return one(c.ListPage(x, ListQuery{}, "")) }},
		{"List", true, "records", func(x ctx, c *Client) (err error) {
			for _, err = range c.List(x, ListQuery{}) {
				_ = err
			}
			return err
		}},
		{"BlockRecords", true, "block records", func(x ctx, c *Client) error {
			return one(c.BlockRecords(x, 0, 0, 0))
		}},
		{"Find", false, "found", func(x ctx, c *Client) error { return one(c.Find(x, leaf)) }},
		{"Stream", true, "stream", func(x ctx, c *Client) (err error) {
			for _, err = range c.Stream(x, StreamQuery{}) {
				break
			}
			return err
		}},
		{"Receipt", false, "receipt", func(x ctx, c *Client) error { return one(c.Receipt(x, 0)) }},
		{"ReceiptAt", false, "receipt", func(x ctx, c *Client) error { return one(c.ReceiptAt(x, 0, 0)) }},
		{"TlogProof", false, "tlog proof", func(x ctx, c *Client) error { return one(c.TlogProof(x, 0)) }},
		{"TlogProofAt", false, "tlog proof", func(x ctx, c *Client) error { return one(c.TlogProofAt(x, 0, 0)) }},
		{"Proof", false, "proof", func(x ctx, c *Client) error { return one(c.Proof(x, 0)) }},
		{"ProofAt", false, "proof", func(x ctx, c *Client) error { return one(c.ProofAt(x, 0, 0)) }},
		{"CreateProject", false, "created project", func(x ctx, c *Client) error {
			return one(c.CreateProject(x, wire.NewProject{Name: "new"}))
		}},
		{"Projects", false, "projects", func(x ctx, c *Client) error { return one(c.Projects(x, "", 0)) }},
		{"Project", false, "project", func(x ctx, c *Client) error { return one(c.Project(x, "default")) }},
		{"ChangeProject", false, "project", func(x ctx, c *Client) error {
			return one(c.ChangeProject(x, "default", wire.ProjectChange{}))
		}},
		{"Tokens", false, "tokens", func(x ctx, c *Client) error { return one(c.Tokens(x, "default")) }},
		{"CreateToken", false, "created token", func(x ctx, c *Client) error {
			return one(c.CreateToken(x, "default", wire.NewToken{}))
		}},
		{"RevokeToken", false, "none", func(x ctx, c *Client) error { return c.RevokeToken(x, "default", 2) }},
		{"CreateAdmin", false, "created admin", func(x ctx, c *Client) error {
			return one(c.CreateAdmin(x, wire.NewAdmin{Name: "alice", Role: wire.RoleAuditor}))
		}},
		{"Admins", false, "admins", func(x ctx, c *Client) error { return one(c.Admins(x)) }},
		{"CreateJoinTicket", false, "created ticket", func(x ctx, c *Client) error {
			return one(c.CreateJoinTicket(x, wire.NewJoinTicket{Name: "m4"}))
		}},
		{"JoinTickets", false, "tickets", func(x ctx, c *Client) error { return one(c.JoinTickets(x)) }},
		{"RevokeJoinTicket", false, "none", func(x ctx, c *Client) error { return c.RevokeJoinTicket(x, 1) }},
		{"RevokeAdmin", false, "none", func(x ctx, c *Client) error { return c.RevokeAdmin(x, 1) }},
		{"ApproveWorker", false, "waiting worker", func(x ctx, c *Client) error {
			return one(c.ApproveWorker(x, "s-7"))
		}},
		{"RefuseWorker", false, "none", func(x ctx, c *Client) error { return c.RefuseWorker(x, "s-7") }},
		{"Me", false, "me", func(x ctx, c *Client) error { return one(c.Me(x)) }},
		{"Cluster", false, "cluster", func(x ctx, c *Client) error { return one(c.Cluster(x)) }},
		{"SetTime", false, "time", func(x ctx, c *Client) error { return one(c.SetTime(x, 1_900_000_000_000, true)) }},
		{"SetTLS", false, "step", func(x ctx, c *Client) error { return c.SetTLS(x, wire.TLSAccept) }},
		{"ChangeSettings", false, "settings", func(x ctx, c *Client) error {
			return one(c.ChangeSettings(x, wire.SettingsChange{}))
		}},
		{"Profile", false, "profile", func(x ctx, c *Client) error {
			return one(c.Profile(x, wire.ProfileRequest{Node: "m-1", Kind: wire.ProfileHeap}))
		}},
		{"TransferLeadership", false, "transferred", func(x ctx, c *Client) error {
			return one(c.TransferLeadership(x, ""))
		}},
		{"Integrity", false, "integrity", func(x ctx, c *Client) error { return one(c.Integrity(x)) }},
		{"CheckStorage", false, "node", func(x ctx, c *Client) error { return one(c.CheckStorage(x, "s-1")) }},
		{"ConfirmLost", false, "integrity", func(x ctx, c *Client) error { return one(c.ConfirmLost(x, block)) }},
		{"Log", false, "log", func(x ctx, c *Client) error { return one(c.Log(x)) }},
		{"Checkpoint", false, "checkpoint", func(x ctx, c *Client) error { return one(c.Checkpoint(x)) }},
		{"AddLogKey", false, "log key", func(x ctx, c *Client) error { return one(c.AddLogKey(x)) }},
		{"RetireLogKey", false, "none", func(x ctx, c *Client) error { return c.RetireLogKey(x, "00000002") }},
		{"CloseLog", false, "log key", func(x ctx, c *Client) error { return one(c.CloseLog(x, wire.CloseLog{})) }},
		{"RemoveStorage", false, "none", func(x ctx, c *Client) error { return c.RemoveStorage(x, "s-1", true) }},
		{"RemoveAppendStream", false, "none", func(x ctx, c *Client) error { return c.RemoveAppendStream(x, "doors") }},
		{"RemoveMiner", false, "none", func(x ctx, c *Client) error { return c.RemoveMiner(x, "w-1") }},
		{"RemoveMaster", false, "none", func(x ctx, c *Client) error { return c.RemoveMaster(x, "m-1", true) }},
	}
}

// extends names the forms that another form has all fields of.
var extends = map[string][]string{
	"record": {"position"}, "records": {"positions"}, "block records": {"records"},
	"created project": {"created token"}, "created admin": {"created token", "me"},
	"waiting worker": {"me"},
}

// answered is an answer of an honest master.
type answered struct {
	status int
	media  string
	body   []byte
}

func (a answered) serve(w http.ResponseWriter, _ *http.Request) {
	if a.media != "" {
		w.Header().Set("Content-Type", a.media)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(a.body)))
	w.WriteHeader(a.status)
	w.Write(a.body)
}

// honestAnswers calls everything against a cluster that works, and returns its answers by the name of the call.
func honestAnswers(t *testing.T) ([]clientCall, map[string]answered) {
	t.Helper()
	cluster := fakecluster.New()
	var last answered
	url := cluster.Serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var body bytes.Buffer
			h.ServeHTTP(teeWriter{w, &body, &last}, r)
			last.body, last.media = body.Bytes(), w.Header().Get("Content-Type")
		})
	})
	t.Cleanup(func() { cluster.Close() })
	cluster.Change(func() {
		cluster.Streams["doors"] = []int{0, 1}
		for range 2 * fakecluster.BlockRecords {
			cluster.Append(cluster.Projects[0], "k", "text/plain", []byte("payload"))
		}
		cluster.AddToken(cluster.Projects[0], "second", nil, "second-token-of-the-tests")
		nodes := []wire.NodeIntegrity{{ID: "s-1", State: "valid"}, {ID: "s-2"}, {ID: "s-3"}}
		cluster.Integrity = wire.Integrity{Nodes: nodes, Lost: []chain.Range{{From: 1, To: 2}}, Events: []wire.Event{}}
		cluster.Status = &wire.Cluster{
			Group: "g", Storages: []wire.Storage{}, Miners: []wire.Miner{{ID: "w-1"}},
			Masters: []wire.Master{{ID: "m-0", State: "leader"}, {ID: "m-1", State: "follower"}},
		}
		cluster.TLog = &wire.Log{Origin: "o", Keys: []wire.LogKey{{ID: "00000001"}, {ID: "00000002"}}}
	})
	list := clientCalls(cluster)
	answers := map[string]answered{}
	for _, call := range list {
		var err error
		for _, token := range []string{fakecluster.ProjectToken, fakecluster.AdminToken} {
			c, configErr := New(Config{Masters: []string{url}, Token: token, RetryFor: -1})
			if configErr != nil {
				t.Fatal(configErr)
			}
			defer c.CloseIdle()
			if err = call.call(t.Context(), c); !errors.Is(err, wire.ErrForbidden) {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s of a cluster that works: %v", call.name, err)
		}
		answers[call.name] = last
	}
	return list, answers
}

type teeWriter struct {
	http.ResponseWriter
	body *bytes.Buffer
	last *answered
}

func (w teeWriter) WriteHeader(status int) {
	w.last.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w teeWriter) Write(data []byte) (int, error) {
	w.body.Write(data)
	return w.ResponseWriter.Write(data)
}

func (w teeWriter) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// wrongAnswers are answers that no master gives to any call, and those that no master gives to calls of one kind.
func wrongAnswers(honest answered) map[string]answered {
	page := []byte("<html><body>Please log in.</body></html>")
	wrong := map[string]answered{
		"200 without a body":           {200, honest.media, nil},
		"200, empty object":            {200, "application/json", []byte("{}")},
		"200, null":                    {200, "application/json", []byte("null")},
		"200, empty list":              {200, "application/json", []byte("[]")},
		"200, empty lists":             {200, "application/json", []byte(`{"records":null,"nodes":null}`)},
		"200, a text":                  {200, wire.TypeNote, []byte("fine\n")},
		"200, a page of a proxy":       {200, "text/html", page},
		"200, a page with a JSON type": {200, "application/json", page},
		"202 without a body":           {202, honest.media, nil},
		"206, a part":                  {206, honest.media, honest.body},
		"301, a redirect":              {301, "text/html", page},
		"304, not modified":            {304, "", nil},
		"401, a page of a proxy":       {401, "text/html", page},
		"403, a page of a proxy":       {403, "text/html", page},
		"404, a page of a proxy":       {404, "text/html", page},
		"404, a problem of another program": {404, wire.TypeProblem,
			[]byte(`{"type":"https://example.com/not-found","title":"Not found","status":404}`)},
		"404, the name of a problem of ours without its base": {404, wire.TypeProblem,
			[]byte(`{"type":"not-found","title":"Not found","status":404}`)},
		"503, a page of a proxy": {503, "text/html", page},
		"503, not found": {503, wire.TypeProblem,
			[]byte(`{"type":"` + wire.ProblemBase + `not-found","title":"Not found","status":404}`)},
		"200, a problem": {200, wire.TypeProblem,
			[]byte(`{"type":"` + wire.ProblemBase + `not-found","title":"Not found","status":404}`)},
		"204 without a body": {204, "", nil},
	}
	if len(honest.body) > 0 {
		wrong["half of the body"] = answered{honest.status, honest.media, honest.body[:len(honest.body)/2]}
		wrong["another media type"] = answered{honest.status, "text/html", honest.body}
		wrong["an error with the right body"] = answered{500, honest.media, honest.body}
	} else {
		delete(wrong, "204 without a body")
		delete(wrong, "206, a part")
		wrong["206"] = answered{206, "", nil}
	}
	return wrong
}

// TestWrongAnswers checks that no call takes an answer for a good one that no master gives to that call, and that none
// takes the error of another program for one of ChainStore.
func TestWrongAnswers(t *testing.T) {
	calls, honest := honestAnswers(t)
	for _, call := range calls {
		try := func(what string, a answered) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 1*time.Second)
			defer cancel()
			err := call.call(ctx, newClient(t, -1, a.serve))
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, answered with %s, does not end", call.name, what)
			}
			if err == nil {
				t.Errorf("%s takes %s", call.name, what)
			}
			for _, p := range wire.ProblemTypes() {
				if errors.Is(err, p) && p != wire.ErrUnknownOutcome {
					t.Errorf("%s, answered with %s: %v, which counts as %q", call.name, what, err, p.Name)
				}
			}
		}
		for what, a := range wrongAnswers(honest[call.name]) {
			if call.name == "Stream" && what == "half of the body" {
				continue // it has complete records
			}
			try(what, a)
		}
		for _, other := range calls {
			if other.form != call.form && !slices.Contains(extends[other.form], call.form) {
				try("the answer of "+other.name, honest[other.name])
			}
		}
		c := newClient(t, -1, honest[call.name].serve)
		if err := call.call(t.Context(), c); err != nil && call.name != "AppendWait" {
			t.Errorf("%s of the honest answer: %v", call.name, err)
		}
	}
}

// TestEveryCallIsTried checks that the table of calls is complete.
func TestEveryCallIsTried(t *testing.T) {
	calls, _ := honestAnswers(t)
	for method := range reflect.TypeFor[*Client]().Methods() {
		if !slices.Contains([]string{"CloseIdle", "NewBatcher", "NewAppendStream", // they make no call
			"Audit", "FollowAudit"}, method.Name) && // they decode what List and Stream return
			!slices.ContainsFunc(calls, func(c clientCall) bool { return c.name == method.Name }) {
			t.Errorf("%s is not in the table", method.Name)
		}
	}
}

// TestHostileMasters checks that each call ends in time, takes a bounded amount of memory and fails, whatever is
// answered.
func TestHostileMasters(t *testing.T) {
	const patience = 10 * time.Second // more than the other side needs
	slowPatience := 500 * time.Millisecond
	list, _ := honestAnswers(t)
	if testing.Short() { // one of each kind
		slowPatience /= 2
		list = slices.DeleteFunc(list, func(c clientCall) bool {
			return !slices.Contains([]string{"Append", "Stream", "Checkpoint", "RemoveMiner", "Integrity"}, c.name)
		})
	}
	// hostile makes all calls with these answers at the same time, and checks what they take together.
	hostile := func(names ...string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		limit := uint64(0)
		var calling sync.WaitGroup
		for _, name := range names {
			answer, patience := fakecluster.Hostile[name], patience
			if answer.Slow {
				patience = slowPatience
			}
			url, stop := fakecluster.ServeHostile(answer)
			defer stop()
			c, err := New(Config{Masters: []string{url}, RetryFor: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdle()
			for _, call := range list {
				limit += 100 << 20
				if call.large {
					limit += 400 << 20
				}
				calling.Go(func() {
					began := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					err := call.call(ctx, c)
					if took := time.Since(began); err == nil || took > time.Minute {
						t.Errorf("%s, answered with %s, after %v: %v", call.name, name, took, err)
					}
				})
				if !answer.Slow {
					calling.Wait() // each has the time that it needs to take much memory
				}
			}
		}
		calling.Wait()
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > limit {
			t.Errorf("answered with %q: %d MiB were allocated, the limit is %d", names, grown>>20, limit>>20)
		}
	}
	var slow []string
	for name, answer := range fakecluster.Hostile {
		if answer.Slow && testing.Short() {
			slow = append(slow, name)
		} else {
			hostile(name)
		}
	}
	if len(slow) > 0 {
		hostile(slow...)
	}
}
