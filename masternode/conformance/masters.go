package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// ServedMasters are calls to masters, and the URLs at which two masters answer. No process answers at Gone.
type ServedMasters struct {
	masternode.Masters
	Leader, Follower, Gone string
}

// Masters tests the calls from a master to other masters. serve gets two running masters, and returns the calls to
// them.
func Masters(t *testing.T, serve func(t *testing.T, leader, follower *masternode.Node) ServedMasters) {
	s := newMasterSuite(t)
	s.ServedMasters = serve(t, s.leader, s.follower)
	t.Run("identity", s.identity)
	t.Run("announcements", s.announcements)
	t.Run("submissions", s.submissions)
	t.Run("commit index", s.commitIndex)
	t.Run("status", s.status)
	t.Run("registrations", s.registrations)
	t.Run("failed syncs", s.failedSyncs)
	t.Run("suspicions", s.suspicions)
	t.Run("a follower", func(t *testing.T) { s.allFail(t, t.Context(), s.Follower, wire.ErrNotLeader) })
	t.Run("no answer", s.noAnswer)
	t.Run("an unknown outcome", s.unknownOutcome)
	t.Run("a deposed leader", s.deposed)
}

// masterSuite has a leader, m1, and a follower, m2, that share the double of the replicated state. What the masters
// themselves call is always a double.
type masterSuite struct {
	ServedMasters
	leader, follower *masternode.Node
	ledger           heldLedger
	fate             atomic.Uint32 // masterstest.Fate of the next command
	vacant           atomic.Bool   // no leader follows the present one
	project          uint32
	seq              uint64 // of the newest submission
	newcomer         joining.Key
}

// heldLedger is the ledger of the leader. It holds commands that contain heldText until a test releases them.
type heldLedger struct {
	*masterstest.Ledger
	held, release chan struct{}
}

const heldText = "the text of a record whose commit is held"

func (l heldLedger) Propose(ctx context.Context, command []byte) (any, error) {
	if bytes.Contains(command, []byte(heldText)) {
		l.held <- struct{}{}
		<-l.release
	}
	return l.Ledger.Propose(ctx, command)
}

// suiteMember returns a master of the suite's group.
func suiteMember(id string) wire.Member {
	return wire.Member{ID: id, URL: "http://" + id, Raft: id + ":1", Group: "cs-test", Epoch: 1}
}

func newMasterSuite(t *testing.T) *masterSuite {
	t.Helper()
	s := &masterSuite{ledger: heldLedger{masterstest.NewLedger(t), make(chan struct{}), make(chan struct{})}}
	s.ledger.Audited.Store(true) // for join tickets
	s.ledger.Fate = func() masterstest.Fate { return masterstest.Fate(s.fate.Swap(0)) }
	s.ledger.Vacancy = func() time.Duration {
		if s.vacant.Load() {
			return time.Hour
		}
		return 0
	}
	group := masterstest.NewMasters() // as the two masters see each other, and a third one
	newcomer := suiteMember("m3")
	newcomer.Group, newcomer.Epoch, newcomer.Level = "", 0, masterfsm.ProtocolLevel
	s.newcomer = joining.NewKey()
	newcomer.Key = s.newcomer.Public()
	group.Set(newcomer.URL, masterstest.Follower{Self: newcomer})

	members := masterstest.NewMembership()
	s.leader = newSuiteNode(t, s.ledger, members, group)
	others := masterstest.NewMembership()
	others.Self = suiteMember("m2")
	s.follower = newSuiteNode(t, masterstest.Following{Ledger: s.ledger.Ledger}, others, group)
	group.Set("http://m1", s.leader)
	group.Set("http://m2", s.follower)
	for _, n := range []*masternode.Node{s.leader, s.follower} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := receive(t, "Run to return", ended); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	await(t, "the leader's term, the newest protocol level, and the end of the leader's announcement", func() bool {
		var v masterfsm.View
		s.ledger.Read(func(state *masterfsm.State) { v = state.View() })
		return s.leader.Ready() == nil && v.Level == masterfsm.ProtocolLevel && v.Master("m1").Key != "" &&
			len(v.Intents) == 0
	})
	created, err := s.leader.CreateProject(t.Context(), wire.NewProject{Name: "p"})
	if err != nil {
		t.Fatal(err)
	}
	access, err := s.leader.Access(t.Context(), created.Token, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s.project = access.Project.ID
	return s
}

func newSuiteNode(
	t *testing.T, ledger masternode.Ledger, members *masterstest.Membership, group masternode.Masters,
) *masternode.Node {
	t.Helper()
	n, err := masternode.New(masternode.Config{
		Member: wire.Member{ID: members.Self.ID, URL: members.Self.URL}, Boot: 1, Key: joining.NewKey(),
		Ledger: ledger, Membership: members, Masters: group, Workers: masterstest.NewWorkers(t, 0),
		Limits: masternode.DefaultLimits(), Logger: hclog.NewNullLogger(),
		Options: leader.Options{
			Settings: masterfsm.DefaultSettings(), Log: signing.LogConfig{Secret: signing.Fixed("cluster token")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *masterSuite) identity(t *testing.T) {
	for url, n := range map[string]*masternode.Node{s.Leader: s.leader, s.Follower: s.follower} {
		got, err := s.Member(t.Context(), url)
		want := n.Itself()
		want.Time = got.Time
		if err != nil || !reflect.DeepEqual(got, want) || got.Level == 0 || got.Time == 0 || got.Proof == nil {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

func (s *masterSuite) announcements(t *testing.T) {
	newcomer := suiteMember("m3")
	newcomer.Group, newcomer.Epoch = "", 0
	if _, err := s.Announce(t.Context(), s.Follower, newcomer, true); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("forwarded to a follower: %v", err)
	}
	ticket := func() joining.Key {
		created, err := s.leader.CreateTicket(t.Context(), wire.NewJoinTicket{}, "")
		if err != nil {
			t.Fatal(err)
		}
		key, err := joining.ParseTicket(created.Ticket)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	newcomer.Proof = joining.Prove("cs-test", newcomer, 1, s.newcomer, ticket())
	want := wire.Announced{Group: "cs-test", Epoch: 1, Level: masterfsm.ProtocolLevel}
	for range 2 { // the second time it is known
		for _, url := range []string{s.Follower, s.Leader} {
			if got, err := s.Announce(t.Context(), url, newcomer, false); err != nil || got != want {
				t.Errorf("a new master to %s: %+v, %v", url, got, err)
			}
		}
	}
	if got, err := s.Announce(t.Context(), s.Leader, newcomer, true); err != nil || got != want {
		t.Errorf("forwarded to the leader: %+v, %v", got, err)
	}

	other, older, absent := suiteMember("m4"), suiteMember("m4"), suiteMember("m4")
	other.Group = "cs-other"
	older.Epoch = 0
	bad, uninvited, thief := suiteMember("m4"), suiteMember("m4"), suiteMember("m3")
	bad.URL = "m4"
	absent.Proof = joining.Prove("cs-test", absent, 1, joining.NewKey(), ticket())
	uninvited.Proof = joining.Prove("cs-test", uninvited, 1, joining.NewKey(), joining.Key{})
	thief.Proof = joining.Prove("cs-test", thief, 2, joining.NewKey(), joining.Key{})
	for name, c := range map[string]struct {
		m    wire.Member
		want error
	}{
		"of another group":             {other, wire.ErrOtherGroup},
		"of the group before recovery": {older, wire.ErrRemoved},
		"that does not answer":         {absent, wire.ErrBadRequest},
		"without a scheme in its URL":  {bad, wire.ErrBadRequest},
		"without a ticket":             {uninvited, wire.ErrTicketNeeded},
		"with another key":             {thief, wire.ErrOtherKey},
	} {
		for _, url := range []string{s.Follower, s.Leader} {
			if _, err := s.Announce(t.Context(), url, c.m, false); !errors.Is(err, c.want) {
				t.Errorf("a master %s to %s: %v, want %v", name, url, err, c.want)
			}
		}
	}
	if err := s.leader.RemoveMaster(t.Context(), "m3", true); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{s.Leader, s.Follower} {
		_, err := s.Announce(t.Context(), url, newcomer, false)
		removed, ok := errors.AsType[*wire.RemovedError](err)
		signs := s.leader
		if ok && removed.Master != signs.Member().ID { // a follower signs what it knows, and passes on the rest
			signs = s.follower
		}
		if own := signs.Member(); !ok || !errors.Is(err, wire.ErrRemoved) || removed.Master != own.ID ||
			removed.Signature != signs.Sign(joining.Removal("cs-test", own.Epoch, own.ID, "m3", newcomer.Epoch)) {
			t.Errorf("a removed master to %s: %+v", url, err)
		}
	}
}

// submission returns the next submission of m2, with one record.
func (s *masterSuite) submission(payload string) []byte {
	s.seq++
	return s.named(s.seq, payload)
}

// named returns the submission of m2 with a sequence number.
func (s *masterSuite) named(seq uint64, payload string) []byte {
	record := chain.Record{Project: s.project, Payload: []byte(payload)}
	body := sha256.Sum256([]byte(payload))
	sub := masterfsm.NewSubmission(nil, "m2", 1, seq)
	sub.StartRequest(s.project, masterfsm.Digest{}, masterfsm.Digest(body[:16]))
	sub.AddEncoded(record.Commit(), record.AppendTo(nil))
	return sub.Bytes()
}

// records returns how many records the replicated state has.
func (s *masterSuite) records(t *testing.T) (n uint64) {
	t.Helper()
	found := false
	s.ledger.Read(func(state *masterfsm.State) {
		var p masterfsm.Project
		p, found = state.Project(s.project)
		n = p.Records
	})
	if !found {
		t.Fatal("the project is not in the state")
	}
	return n
}

func (s *masterSuite) submissions(t *testing.T) {
	before := s.records(t)
	for i, fresh := range []bool{false, true} {
		sent := s.submission(fmt.Sprint("a record of some length ", i))
		kept := slices.Clone(sent)
		answer, err := s.Submit(t.Context(), s.Leader, sent, fresh)
		if err != nil {
			t.Fatal(err)
		}
		placed, err := masterfsm.ParsePlacements(answer)
		if err != nil || len(placed) != 1 || placed[0].Err != masterfsm.Accepted {
			t.Fatalf("%+v, %v", placed, err)
		}
		clear(sent) // the caller may reuse it
		again, err := s.Submit(t.Context(), s.Leader, kept, !fresh)
		if err != nil || string(again) != string(answer) {
			t.Errorf("sent again: %x, %v; the first answer was %x", again, err, answer)
		}
		if got := s.records(t); got != before+uint64(i)+1 {
			t.Errorf("%d records after submission %d, %d before", got, i, before)
		}
	}
	for name, c := range map[string]struct {
		submission []byte
		want       error
	}{
		"none":                 {nil, wire.ErrBadRequest},
		"not a submission":     {[]byte("not a submission"), wire.ErrBadRequest},
		"a name with a record": {s.named(s.seq, "another record of that name"), wire.ErrForgotten},
	} {
		_, err := s.Submit(t.Context(), s.Leader, c.submission, false)
		if !errors.Is(err, c.want) || errors.Is(err, wire.ErrNotLeader) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if got := s.records(t); got != before+2 {
		t.Errorf("%d records, %d before", got, before)
	}
}

func (s *masterSuite) commitIndex(t *testing.T) {
	want, err := s.ledger.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.ReadIndex(t.Context(), s.Leader); err != nil || got.Term != want.Term || got.Index < want.Index {
		t.Errorf("%+v, %v; the ledger has %+v", got, err, want)
	}
}

func (s *masterSuite) status(t *testing.T) {
	c, err := s.Cluster(t.Context(), s.Leader)
	if err != nil || !c.Authoritative || c.Leader != "m1" || c.Records < s.records(t) {
		t.Errorf("%+v, %v", c, err)
	}
	if i, err := s.Integrity(t.Context(), s.Leader); err != nil || !i.Authoritative || i.Nodes == nil {
		t.Errorf("%+v, %v", i, err)
	}
}

// storage is a registration of a storage node.
var storage = wire.Registration{Role: "storage", URL: "http://s", MasterToken: "x", Boot: "1", Lists: true}

func (s *masterSuite) registrations(t *testing.T) {
	if _, err := s.Register(t.Context(), s.Follower, storage, true); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("forwarded to a follower: %v", err)
	}
	w, err := s.Register(t.Context(), s.Follower, storage, false)
	if err != nil || w.ID == "" || w.AccessToken == "" || w.Group != "cs-test" || w.Order != "1.1" {
		t.Fatalf("%+v, %v", w, err)
	}
	known := storage
	known.ID, known.AccessToken = w.ID, w.AccessToken
	for _, forwarded := range []bool{false, true} {
		if again, err := s.Register(t.Context(), s.Leader, known, forwarded); err != nil || again != w {
			t.Errorf("again: %+v, %v; the first answer was %+v", again, err, w)
		}
	}
	unknown := known
	unknown.Boot, unknown.Previous = "9", "8"
	for _, url := range []string{s.Leader, s.Follower} {
		_, err := s.Register(t.Context(), url, unknown, false)
		other, ok := errors.AsType[*wire.OtherStartError](err)
		if !ok || !errors.Is(err, wire.ErrOtherStart) || other.Start != "1" {
			t.Errorf("a start that does not know the newest one, to %s: %v", url, err)
		}
		if _, err := s.Register(t.Context(), url, wire.Registration{}, false); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("an empty registration to %s: %v", url, err)
		}
	}
	if err := s.leader.RemoveStorage(t.Context(), w.ID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Register(t.Context(), s.Follower, known, false); !errors.Is(err, wire.ErrRemoved) {
		t.Errorf("a removed worker: %v", err)
	}
}

// failedSyncs reports failed syncs of a storage node, which may not register then.
func (s *masterSuite) failedSyncs(t *testing.T) {
	node := storage
	node.URL, node.Kernel = "http://failed", "one"
	w, err := s.Register(t.Context(), s.Follower, node, false)
	if err != nil {
		t.Fatal(err)
	}
	node.ID, node.AccessToken = w.ID, w.AccessToken
	over := wire.FailedSync{ID: w.ID, AccessToken: w.AccessToken, Kernel: "two", Over: true}
	if err := s.ReportFailedSync(t.Context(), s.Follower, over, false); err != nil {
		t.Errorf("nothing is over: %v", err)
	}
	failed := wire.FailedSync{ID: w.ID, AccessToken: w.AccessToken, Kernel: "one",
		Detail: strings.Repeat("input/output error ", 1000)}
	for name, c := range map[string]struct {
		url       string
		forwarded bool
		wire.FailedSync
		want error
	}{
		"forwarded to a follower": {s.Follower, true, failed, wire.ErrNotLeader},
		"an unknown node":         {s.Leader, false, wire.FailedSync{ID: "none", Kernel: "one"}, wire.ErrNotFound},
		"a node":                  {s.Follower, false, failed, nil},
		"again":                   {s.Leader, true, failed, nil},
	} {
		if err := s.ReportFailedSync(t.Context(), c.url, c.FailedSync, c.forwarded); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, url := range []string{s.Follower, s.Leader} {
		if _, err := s.Register(t.Context(), url, node, false); !errors.Is(err, wire.ErrFailedSync) {
			t.Errorf("the kernel of the failed sync: %v", err)
		}
		c, err := s.Cluster(t.Context(), s.Leader)
		if err != nil || !slices.ContainsFunc(c.NoticesCoded, func(m wire.Message) bool {
			return m.Code == wire.CodeFailedSync && m.Args["node"] == w.ID
		}) {
			t.Errorf("%+v, %v", c.NoticesCoded, err)
		}
	}
	other := node
	other.Kernel = "two"
	for range 2 {
		if again, err := s.Register(t.Context(), s.Follower, other, false); err != nil || again != w {
			t.Errorf("another kernel: %+v, %v", again, err)
		}
	}
	failed.Kernel = "two"
	if err := s.ReportFailedSync(t.Context(), s.Leader, failed, false); err != nil {
		t.Fatal(err)
	}
	other.AfterFailedSync = true
	if again, err := s.Register(t.Context(), s.Follower, other, false); err != nil || again != w {
		t.Errorf("overridden: %+v, %v", again, err)
	}
	if err := s.leader.RemoveStorage(t.Context(), w.ID, true); err != nil {
		t.Fatal(err)
	}
}

func (s *masterSuite) suspicions(t *testing.T) {
	w, err := s.leader.Register(t.Context(), storage, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		wire.Suspicion
		want error
	}{
		"a node":          {wire.Suspicion{ID: w.ID, Cause: "a wrong header"}, nil},
		"an unknown node": {wire.Suspicion{ID: "s-none", Cause: "a wrong header"}, wire.ErrNotFound},
		"no node":         {wire.Suspicion{Cause: "a wrong header"}, wire.ErrBadRequest},
		"no cause":        {wire.Suspicion{ID: w.ID}, wire.ErrBadRequest},
	} {
		if err := s.Suspect(t.Context(), s.Leader, c.Suspicion); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// calls are all calls that a follower refuses.
func (s *masterSuite) calls(ctx context.Context, url string) map[string]func() error {
	return map[string]func() error{
		"Announce":  func() error { _, err := s.Announce(ctx, url, suiteMember("m1"), true); return err },
		"Submit":    func() error { _, err := s.Submit(ctx, url, s.submission("one more"), false); return err },
		"fresh":     func() error { _, err := s.Submit(ctx, url, s.submission("one more"), true); return err },
		"ReadIndex": func() error { _, err := s.ReadIndex(ctx, url); return err },
		"Cluster":   func() error { _, err := s.Cluster(ctx, url); return err },
		"Integrity": func() error { _, err := s.Integrity(ctx, url); return err },
		"Suspect":   func() error { return s.Suspect(ctx, url, wire.Suspicion{ID: "s", Cause: "c"}) },
		"Register":  func() error { _, err := s.Register(ctx, url, storage, true); return err },
	}
}

// allFail tests that every call fails with an error, and only with that of the three that say what may have happened.
func (s *masterSuite) allFail(t *testing.T, ctx context.Context, url string, want error) {
	t.Helper()
	for name, call := range s.calls(ctx, url) {
		err := call()
		for _, e := range []error{wire.ErrNotLeader, wire.ErrNoAnswer, wire.ErrUnknownOutcome} {
			if errors.Is(err, e) != (e == want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
}

// noAnswer tests calls to a master that is gone, and calls that end with their context.
func (s *masterSuite) noAnswer(t *testing.T) {
	s.allFail(t, t.Context(), s.Gone, wire.ErrNoAnswer)
	if _, err := s.Member(t.Context(), s.Gone); !errors.Is(err, wire.ErrNoAnswer) {
		t.Errorf("Member: %v", err)
	}
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	s.allFail(t, ctx, s.Leader, wire.ErrNoAnswer)

	before := s.records(t)
	ctx, cancel = context.WithCancelCause(t.Context())
	answered := s.submitHeld(t, ctx)
	cancel(cause)
	if err := receive(t, "Submit", answered); !errors.Is(err, wire.ErrNoAnswer) || !errors.Is(err, cause) ||
		errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("a call whose caller gives up: %v", err)
	}
	s.ledger.release <- struct{}{}
	await(t, "the commit", func() bool { return s.records(t) == before+1 })
}

// submitHeld sends a submission, and returns when the leader is about to commit it. The commit continues after a
// message on release.
func (s *masterSuite) submitHeld(t *testing.T, ctx context.Context) (answered <-chan error) {
	t.Helper()
	result := make(chan error, 1)
	sent := s.submission(heldText)
	go func() {
		_, err := s.Submit(ctx, s.Leader, sent, false)
		result <- err
	}()
	receive(t, "the commit to begin", s.ledger.held)
	return result
}

// leads reports whether m1 leads and its term has begun.
func (s *masterSuite) leads() bool {
	_, err := s.leader.LeaderCluster(context.Background())
	return err == nil
}

// unknownOutcome tests a submission whose leader is deposed while it commits.
func (s *masterSuite) unknownOutcome(t *testing.T) {
	for _, fate := range []masterstest.Fate{masterstest.DeposedKept, masterstest.DeposedForgot} {
		before := s.records(t)
		sent := s.submission("perhaps")
		s.fate.Store(uint32(fate))
		_, err := s.Submit(t.Context(), s.Leader, sent, false)
		if !errors.Is(err, wire.ErrUnknownOutcome) || errors.Is(err, wire.ErrNotLeader) {
			t.Errorf("fate %d: %v", fate, err)
		}
		await(t, "the next leader to take the submission", func() bool {
			_, err := s.Submit(t.Context(), s.Leader, sent, true)
			return err == nil
		})
		if got := s.records(t); got != before+1 {
			t.Errorf("fate %d: %d records, %d before", fate, got, before)
		}
	}
}

// deposed tests calls to a master that loses the leadership.
func (s *masterSuite) deposed(t *testing.T) {
	s.vacant.Store(true)
	before := s.records(t)
	answered := s.submitHeld(t, t.Context())
	s.ledger.CutLeadership()
	await(t, "the end of the leadership", func() bool { return !s.leads() })
	s.ledger.release <- struct{}{}
	err := receive(t, "Submit", answered)
	if errors.Is(err, wire.ErrNotLeader) == errors.Is(err, wire.ErrUnknownOutcome) {
		t.Errorf("a submission that waited: %v", err)
	}
	s.allFail(t, t.Context(), s.Leader, wire.ErrNotLeader)
	if got := s.records(t); got != before {
		t.Errorf("%d records, %d before", got, before)
	}
}
