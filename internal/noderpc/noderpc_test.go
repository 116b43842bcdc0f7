package noderpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

func TestMastersCalls(t *testing.T) {
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer "+clusterToken {
			t.Errorf("authorization %q", got)
		}
		if _, ok := r.Header[wire.HeaderIdempotencyKey]; ok {
			t.Error("an idempotency key went out")
		}
		body, _ := io.ReadAll(r.Body)
		switch r.Method + " " + r.URL.Path {
		case "GET " + wire.PathMember:
			reply(w, 200, wire.Member{ID: "m1", Group: "g"})
		case "POST " + wire.PathAdopt:
			if string(body) != `{"group":"g","epoch":3,"member":"m1"}` {
				t.Errorf("adoption %s", body)
			}
			w.WriteHeader(http.StatusNoContent)
		case "POST " + wire.PathSubmissions:
			if r.Header.Get(wire.HeaderHops) != "1" || r.Header.Get("Content-Type") != wire.TypeOctets {
				t.Errorf("header %v", r.Header)
			}
			w.Write(append([]byte("answer to "), body...))
		case "GET " + wire.PathReadIndex:
			reply(w, 200, wire.ReadIndex{Index: 7, Term: 2})
		case "GET " + wire.PathLeaderStatus:
			reply(w, 200, wire.Cluster{Leader: "m1"})
		case "POST " + wire.PathWorkers:
			var reg wire.Registration
			if err := json.Unmarshal(body, &reg); err != nil || reg.Role != "miner" {
				t.Errorf("%+v, %v", reg, err)
			}
			reply(w, 201, wire.Registered{ID: "w1", AccessToken: "a", Group: "g"})
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	})
	m, ctx := newMasters(t), t.Context()
	if v, err := m.Member(ctx, server.URL); err != nil || v.ID != "m1" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := m.Adopt(ctx, server.URL, wire.Adoption{Group: "g", Epoch: 3, Member: "m1"}); err != nil {
		t.Error(err)
	}
	if v, err := m.Submit(ctx, server.URL, []byte("submission"), false); err != nil ||
		string(v) != "answer to submission" {
		t.Errorf("%s, %v", v, err)
	}
	if v, err := m.ReadIndex(ctx, server.URL); err != nil || v != (wire.ReadIndex{Index: 7, Term: 2}) {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := m.Cluster(ctx, server.URL); err != nil || v.Leader != "m1" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := m.Register(ctx, server.URL, wire.Registration{Role: "miner"}, false); err != nil || v.ID != "w1" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestRegisterOtherStart checks that the error of a refused registration contains the start that the masters have.
func TestRegisterOtherStart(t *testing.T) {
	server, _ := node(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.TypeProblem)
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(wire.OtherStart{
			Problem: wire.Problem{Type: wire.ProblemBase + wire.ErrOtherStart.Name, Title: "another", Status: 409},
			Start:   "b2",
		})
	})
	_, err := newMasters(t).Register(t.Context(), server.URL, wire.Registration{Role: "miner"}, false)
	var other *wire.OtherStartError
	if !errors.Is(err, wire.ErrOtherStart) || !errors.As(err, &other) || other.Start != "b2" {
		t.Errorf("got %v", err)
	}
}

// TestForwardedCallsAreSigned checks that a forwarded call says who sent the request, and that the signature covers the
// call as it arrives.
func TestForwardedCallsAreSigned(t *testing.T) {
	var hop origin.Hop
	var got origin.Request
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		hop = origin.ParseHop(r.Header.Get(wire.HeaderHops))
		got = origin.Request{Caller: r.Header.Get(wire.HeaderCaller), Method: r.Method, URI: r.RequestURI,
			Body: sha256.Sum256(body)}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	})
	m := newMasters(t)
	m.From(func() wire.Caller { return wire.Caller{Group: "g", Order: wire.Order{Epoch: 1, Term: 2}} })
	m.Sign(func(message []byte) string { return fmt.Sprintf("%x", sha256.Sum256(message)) })
	ctx := origin.With(t.Context(), trail.Origin{
		Actor:  trail.Actor{Kind: trail.ByNode, Name: "spiffe://cs/miner/i1"},
		Source: trail.Source{Member: "m2", Address: "192.0.2.1"},
	})
	if _, err := m.Register(ctx, server.URL, wire.Registration{Role: "miner"}, true); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(hop.Message(got))); hop.Signature != want || got.Caller == "" ||
		hop.Node != "spiffe://cs/miner/i1" || hop.Source != (trail.Source{Member: "m2", Address: "192.0.2.1"}) {
		t.Errorf("the hop is %+v of %+v, and the signature that of other bytes", hop, got)
	}
	_, err := m.Register(ctx, server.URL, wire.Registration{Role: "miner"}, false)
	if err != nil || hop != (origin.Hop{}) {
		t.Errorf("a call that is not forwarded has the hop %+v, %v", hop, err)
	}
}

// TestSignedRemoval checks that the refusal of a removed master keeps the signature of the master that refuses.
func TestSignedRemoval(t *testing.T) {
	said := wire.Removed{Problem: wire.Problem{Type: wire.ProblemBase + wire.ErrRemoved.Name, Title: "no"}}
	server, _ := node(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.TypeProblem)
		w.WriteHeader(wire.ErrRemoved.Status)
		if err := json.NewEncoder(w).Encode(said); err != nil {
			t.Error(err)
		}
	})
	m := newMasters(t)
	_, err := m.Announce(t.Context(), server.URL, wire.Member{}, false)
	if _, ok := errors.AsType[*wire.RemovedError](err); ok || !errors.Is(err, wire.ErrRemoved) {
		t.Errorf("without a signature: %v", err)
	}
	said.Master, said.Epoch, said.Signature = "m1", 3, "signature"
	_, err = m.Announce(t.Context(), server.URL, wire.Member{}, false)
	if removed, ok := errors.AsType[*wire.RemovedError](err); !ok || !errors.Is(err, wire.ErrRemoved) ||
		removed.Master != "m1" || removed.Epoch != 3 || removed.Signature != "signature" {
		t.Errorf("with a signature: %+v", err)
	}
}

// TestForwardedCalls checks that a master that forwards a call returns the refusal of the leader, and that the
// forwarded call is marked.
func TestForwardedCalls(t *testing.T) {
	problem, hops := "", ""
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		hops = r.Header.Get(wire.HeaderHops)
		w.Header().Set("Content-Type", wire.TypeProblem)
		w.WriteHeader(wire.ProblemNamed(problem).Status)
		answer := wire.OtherStart{Problem: wire.Problem{Type: wire.ProblemBase + problem, Title: "no"}, Start: "b2"}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	})
	m := newMasters(t)
	for name, want := range map[string]error{
		wire.ErrRemoved.Name: wire.ErrRemoved, wire.ErrOtherGroup.Name: wire.ErrOtherGroup,
		wire.ErrTooFewMasters.Name: wire.ErrTooFewMasters, wire.ErrBadRequest.Name: wire.ErrBadRequest,
		wire.ErrNoLeader.Name: wire.ErrNotLeader,
	} {
		problem = name
		if _, err := m.Announce(t.Context(), server.URL, wire.Member{}, true); !errors.Is(err, want) || hops != "1" {
			t.Errorf("%s: %v with %q hops, want %v", name, err, hops, want)
		}
		if _, err := m.Announce(t.Context(), server.URL, wire.Member{}, false); !errors.Is(err, want) || hops != "" {
			t.Errorf("%s, for itself: %v with %q hops, want %v", name, err, hops, want)
		}
	}
	if _, err := m.Register(t.Context(), server.URL, wire.Registration{}, true); err == nil || hops != "1" {
		t.Errorf("a registration: %v with %q hops", err, hops)
	}
	for name, want := range map[string]error{
		wire.ErrRemoved.Name: wire.ErrRemoved, wire.ErrBadRequest.Name: wire.ErrBadRequest,
		wire.ErrOtherStart.Name: wire.ErrOtherStart,
	} {
		problem = name
		_, err := m.Register(t.Context(), server.URL, wire.Registration{ID: "w1"}, true)
		var other *wire.OtherStartError
		if !errors.Is(err, want) || errors.As(err, &other) && other.Start != "b2" || hops != "1" {
			t.Errorf("a registration, %s: %v with %q hops, want %v", name, err, hops, want)
		}
	}
}

func TestNodeErrorsTellWhetherThereWasAnAnswer(t *testing.T) {
	m := newMasters(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	if _, err := m.Submit(t.Context(), dead.URL, []byte("x"), false); !errors.Is(err, wire.ErrNoAnswer) ||
		!exchange.NotSent(err) {
		t.Error(err)
	}
	if _, err := m.Submit(t.Context(), "no url\n", []byte("x"), false); !errors.Is(err, wire.ErrNoAnswer) {
		t.Error(err)
	}
	refuses, _ := node(t, refuse(http.StatusServiceUnavailable, wire.ErrNoLeader.Name))
	var e *wire.Error
	if _, err := m.Submit(t.Context(), refuses.URL, []byte("x"), false); errors.Is(err, wire.ErrNoAnswer) ||
		!errors.Is(err, wire.ErrNoLeader) || !errors.As(err, &e) {
		t.Error(err)
	}
	breaks, _ := node(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := m.Submit(t.Context(), breaks.URL, []byte("x"), false); !errors.Is(err, wire.ErrNoAnswer) ||
		exchange.NotSent(err) {
		t.Error(err)
	}
	cut, _ := node(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("too little"))
	})
	if _, err := m.Submit(t.Context(), cut.URL, []byte("x"), false); !errors.Is(err, wire.ErrNoAnswer) ||
		exchange.NotSent(err) {
		t.Error(err)
	}
	stranger, _ := node(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	if _, err := m.Member(t.Context(), stranger.URL); !errors.Is(err, exchange.ErrAnswer) ||
		errors.Is(err, wire.ErrNoAnswer) {
		t.Error(err)
	}
	hangs, _ := node(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Member(ctx, hangs.URL); !errors.Is(err, wire.ErrNoAnswer) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestConnectionsAreKeptAndFreshOnesAreNot(t *testing.T) {
	server, connections := node(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	m := newMasters(t)
	submit := func(fresh bool) {
		t.Helper()
		if _, err := m.Submit(t.Context(), server.URL, []byte("x"), fresh); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		submit(false)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 10 calls, one after the other", n)
	}
	for i := range 3 {
		submit(true)
		if n := connections.Load(); n != int32(2+i) {
			t.Errorf("%d connections after %d fresh calls", n, i+1)
		}
	}
	// If the other side has closed a kept connection, a new one is used without an error.
	server.CloseClientConnections()
	submit(false)
	submit(false)
}

func TestTheBodyIsTheCallersAgainWhenTheCallReturns(t *testing.T) {
	// The server responds before it has read the body, so the transport is still sending. The race detector detects
	// whether it still reads the buffer that is changed below.
	server, _ := node(t, refuse(http.StatusServiceUnavailable, wire.ErrNoLeader.Name))
	m := newMasters(t)
	body := make([]byte, 4<<20)
	for range 5 {
		// Whether the response or the broken connection is seen first depends on the network.
		if _, err := m.Submit(t.Context(), server.URL, body, false); !errors.Is(err, wire.ErrNoLeader) &&
			!errors.Is(err, wire.ErrNoAnswer) {
			t.Error(err)
		}
		clear(body)
	}
	release := make(chan struct{})
	hangs, _ := node(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := m.Submit(ctx, hangs.URL, body, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	clear(body)
}

func TestPutBlock(t *testing.T) {
	block := bytes.Repeat([]byte("block"), 100_000)
	has := wire.StorageStatus{ID: "s1", Height: 5, Hash: chain.Hash{1}, Size: 99}
	var answer atomic.Pointer[http.HandlerFunc]
	set := func(h http.HandlerFunc) { answer.Store(&h) }
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) })
	c, w, o := newWorkers(t), olderWorker(server.URL), wire.Order{Epoch: 3, Term: 14}

	set(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, block) || r.ContentLength != int64(len(block)) {
			t.Errorf("%d bytes, length %d, %v", len(body), r.ContentLength, err)
		}
		if r.Method != http.MethodPut || r.URL.Path != wire.PathBlocks+"4" ||
			r.Header.Get(wire.HeaderFence) != "3.14" ||
			r.Header.Get("Authorization") != "Bearer "+masterToken {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		reply(w, http.StatusOK, has)
	})
	if got, err := c.PutBlock(t.Context(), w, o, 4, block); err != nil || !reflect.DeepEqual(got, has) {
		t.Errorf("%+v, %v", got, err)
	}

	set(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", wire.TypeProblem)
		w.WriteHeader(http.StatusConflict)
		json.NewEncoder(w).Encode(wire.NotNext{
			Problem:       wire.Problem{Type: wire.ProblemBase + wire.ErrNotNext.Name, Title: "not next", Status: 409},
			StorageStatus: has,
		})
	})
	_, err := c.PutBlock(t.Context(), w, o, 9, block)
	var notNext *wire.NotNextError
	var e *wire.Error
	if !errors.Is(err, wire.ErrNotNext) || !errors.As(err, &notNext) ||
		!reflect.DeepEqual(notNext.Status, has) || !errors.As(err, &e) {
		t.Errorf("%v", err)
	}
	for name, want := range map[string]error{wire.ErrFenced.Name: wire.ErrFenced,
		wire.ErrBadBlock.Name: wire.ErrBadBlock, wire.ErrUnauthorized.Name: wire.ErrUnauthorized} {
		set(refuse(wire.ProblemNamed(name).Status, name))
		if _, err := c.PutBlock(t.Context(), w, o, 9, block[:1000]); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadRecords(t *testing.T) {
	// Each response has at most three records, like that of a node with a size limit.
	var places record[int]
	var known record[string]
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked, err := wire.ParsePlaces(body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != wire.PathReadRecords {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		places.add(len(asked))
		known.add(r.URL.Query().Get(wire.ParamKnown))
		var out []byte
		for _, p := range asked[:min(3, len(asked))] {
			a := wire.ProvenRecord{Record: fmt.Appendf(nil, "%d/%d", p.Block, p.Offset),
				Path: []chain.Hash{{byte(p.Offset)}}}
			if p.Block == 9 {
				a = wire.ProvenRecord{Status: wire.ReadBehind}
			}
			out = a.AppendTo(out)
		}
		w.Write(out)
	})
	c, w := newWorkers(t), olderWorker(server.URL)
	var ask []wire.Place
	for i := range 7 {
		ask = append(ask, wire.Place{Block: 5, Offset: uint32(i)})
	}
	ask[4].Block = 9
	got, err := c.ReadRecords(t.Context(), w, ask, 5)
	if err != nil || len(got) != 7 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for i, r := range got {
		if i == 4 {
			if r.Status != wire.ReadBehind {
				t.Errorf("place 4: %+v", r)
			}
		} else if string(r.Record) != fmt.Sprintf("5/%d", i) || len(r.Path) != 1 || r.Path[0] != (chain.Hash{byte(i)}) {
			t.Errorf("place %d: %+v", i, r)
		}
	}
	if n, k := fmt.Sprint(places.all()), fmt.Sprint(known.all()); n != "[7 4 1]" || k != "[5 2 ]" {
		t.Errorf("asked for %s places, %s of them known", n, k)
	}
	if got, err := c.ReadRecords(t.Context(), w, nil, 0); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReadRecordsRefusesWhatIsMalformed(t *testing.T) {
	one := (&wire.ProvenRecord{Record: []byte("r")}).AppendTo(nil)
	for name, body := range map[string][]byte{
		"nothing": {}, "cut short": one[:len(one)-1], "too many": bytes.Repeat(one, 3), "rubbish": []byte("<html>"),
	} {
		server, _ := node(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
		_, err := newWorkers(t).ReadRecords(t.Context(), wire.Worker{URL: server.URL}, make([]wire.Place, 2), 0)
		if !errors.Is(err, exchange.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	serve := func(numbers ...uint64) wire.Worker {
		server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RequestURI() != wire.PathHeaders+"?from=5&limit=3&size=100" {
				t.Errorf("%s", r.URL)
			}
			w.Header().Set("Content-Type", wire.TypeOctets)
			var out []byte
			for _, n := range numbers {
				p := wire.ProvenHeader{Header: chain.Header{Version: chain.Version, Block: n, Count: 1},
					Path: []chain.Hash{{1}}}
				out = p.AppendTo(out)
			}
			w.Write(out)
		})
		return wire.Worker{URL: server.URL}
	}
	c := newWorkers(t)
	if got, err := c.Headers(t.Context(), serve(5, 6), 5, 3, 100); err != nil || len(got) != 2 ||
		got[1].Header.Block != 6 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Headers(t.Context(), serve(), 5, 3, 100); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]uint64{{6}, {5, 7}, {5, 6, 7, 8}} {
		if _, err := c.Headers(t.Context(), serve(bad...), 5, 3, 100); !errors.Is(err, exchange.ErrAnswer) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestOrdersNameTheGroup checks that an order, and no other call of a worker, has the group of its leader.
func TestOrdersNameTheGroup(t *testing.T) {
	var callers record[string]
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		callers.add(r.Header.Get(wire.HeaderCaller))
		reply(w, 200, struct{}{})
	})
	c, w, o := newWorkers(t), olderWorker(server.URL), wire.Order{Epoch: 1, Term: 2}
	c.From(func() string { return "a group" })
	_, err := c.StorageStatus(t.Context(), w, o)
	_, err2 := c.Locate(t.Context(), w, 1)
	if got := callers.all(); errors.Join(err, err2) != nil || !slices.Equal(got, []string{"1.2 a+group", ""}) {
		t.Errorf("%q, %v, %v", got, err, err2)
	}
}

func TestStatusLocateAndMine(t *testing.T) {
	order := wire.MineOrder{Block: 4, Inner: chain.Hash{1}, Difficulty: 16, Start: 1 << 63}
	started := make(chan struct{}, 1)
	stopped := make(chan struct{}, 1)
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET " + wire.PathWorkerStatus:
			if r.Header.Get(wire.HeaderFence) != "1.2" {
				t.Errorf("%v", r.Header)
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"id":"w","height":3,"threads":2,"mining":true}`)
		case "GET " + wire.PathLocate + "77":
			reply(w, 200, wire.Located{Block: 6})
		case "POST " + wire.PathMine:
			var got wire.MineOrder
			body, err := io.ReadAll(r.Body) // only after reading the body does a server notice that its client has gone
			if err = errors.Join(err, json.Unmarshal(body, &got)); err != nil {
				t.Error(err)
			}
			if got.Block == 4 {
				if want := (wire.MineOrder{Block: 4, Inner: chain.Hash{1}, Difficulty: 16,
					Start: 1 << 63}); got != want {
					t.Errorf("order %+v, want %+v", got, want)
				}
				reply(w, 200, wire.Found{Nonce: 1<<63 + 5})
				return
			}
			started <- struct{}{}
			<-r.Context().Done()
			stopped <- struct{}{}
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	})
	c, w, o, ctx := newWorkers(t), olderWorker(server.URL), wire.Order{Epoch: 1, Term: 2},
		t.Context()
	if s, err := c.StorageStatus(ctx, w, o); err != nil || s.ID != "w" || s.Height != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := c.MinerStatus(ctx, w, o); err != nil || s.Threads != 2 || !s.Mining {
		t.Errorf("%+v, %v", s, err)
	}
	if b, err := c.Locate(ctx, w, 77); err != nil || b != 6 {
		t.Errorf("%d, %v", b, err)
	}
	if n, err := c.Mine(ctx, w, o, order); err != nil || n != 1<<63+5 {
		t.Errorf("%d, %v", n, err)
	}
	order.Block++
	ctx, cancel := context.WithCancel(ctx)
	go func() { <-started; cancel() }()
	if _, err := c.Mine(ctx, w, o, order); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-stopped // the end of the context reached the miner
}

func TestFindCalls(t *testing.T) {
	query := wire.RecordQuery{Project: 3, Key: "k", From: 5, To: 1 << 60, Since: 7, Limit: 9}
	hits := wire.RecordHits{Hits: []wire.Hit{{Index: 6, Block: 1, Offset: 2},
		{Index: 1 << 59, Block: 1 << 40, Offset: 3}}, End: 1 << 60}
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST " + wire.PathFindRecords:
			var got wire.RecordQuery
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got != query {
				t.Errorf("%+v, %v", got, err)
			}
		case "GET " + wire.PathFindHash + (chain.Hash{9}).String():
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
		reply(w, 200, hits)
	})
	c, w := newWorkers(t), olderWorker(server.URL)
	if got, err := c.FindRecords(t.Context(), w, query); err != nil || !reflect.DeepEqual(got, hits) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.FindHash(t.Context(), w, chain.Hash{9}); err != nil || !reflect.DeepEqual(got, hits) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestLongAnswers checks that a storage node whose answers are longer than the caller reads at a time, as those of
// older versions may be, is asked again for the rest.
func TestLongAnswers(t *testing.T) {
	const size = wire.MaxRecordBytes
	payload, asked := make([]byte, size), record[int]{}
	server, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		places, err := wire.ParsePlaces(body)
		if err != nil {
			t.Error(err)
		}
		asked.add(len(places))
		for _, place := range places {
			p := wire.ProvenRecord{Record: payload, Path: []chain.Hash{{byte(place.Offset)}}}
			if _, err := w.Write(p.AppendTo(nil)); err != nil {
				return // the caller has read enough
			}
		}
	})
	places := []wire.Place{{Offset: 1}, {Offset: 2}, {Offset: 3}}
	records, err := newWorkers(t).ReadRecords(t.Context(), wire.Worker{URL: server.URL}, places, 0)
	if err != nil || len(records) != len(places) || !slices.Equal(asked.all(), []int{3, 1}) {
		t.Fatalf("%d records after questions for %v: %v", len(records), asked.all(), err)
	}
	for i, r := range records {
		if len(r.Record) != size || r.Path[0][0] != byte(i+1) {
			t.Errorf("record %d: %d bytes, path %v", i, len(r.Record), r.Path)
		}
	}
}

// TestJSONOfAnotherProgram checks that JSON is accepted only with its media type and a status of ChainStore.
func TestJSONOfAnotherProgram(t *testing.T) {
	for _, c := range []struct {
		status int
		media  string
		good   bool
	}{
		{200, "application/json; charset=utf-8", true}, {200, "text/html", false}, {200, "", false},
		{200, wire.TypeProblem, false}, {203, "application/json", false}, {206, "application/json", false},
	} {
		server, _ := node(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.media)
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(`{"id":"m-1","group":"g"}`))
		})
		_, err := newMasters(t).Member(t.Context(), server.URL)
		if (err == nil) != c.good || err != nil && (!errors.Is(err, exchange.ErrAnswer) || Silent(err)) {
			t.Errorf("%d, %q: %v", c.status, c.media, err)
		}
	}
}
