package workerapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// TestChainIsClosedWhileALeaderIsThere checks that the cluster token, which every miner has, does not permit reading
// blocks while a leader sends orders to the storage node. It permits reading the height.
func TestChainIsClosedWhileALeaderIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, node := quietNode(t)
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		get := func(path, token string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		const blocks = wire.PathChainBlocks + "?from=0&to=1"
		leading, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for leading.Err() == nil {
				get(wire.PathWorkerStatus, "master")
				time.Sleep(time.Second)
			}
		}()
		for until, _ := leading.Deadline(); time.Now().Before(until.Add(-10 * time.Second)); {
			if w := get(blocks, "cluster"); w.Code != http.StatusForbidden ||
				strings.Contains(w.Body.String(), "a payload") {
				t.Fatalf("with a leader: %d %s", w.Code, w.Body)
			}
			if w := get(wire.PathChain, "cluster"); w.Code != http.StatusOK {
				t.Fatalf("how far it goes: %d %s", w.Code, w.Body)
			}
		}
		<-ended
		// A request with a wrong token does not count as contact with a leader.
		time.AfterFunc(time.Second, func() { get(wire.PathWorkerStatus, "wrong") })
		if w := get(blocks, "cluster"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "a payload") {
			t.Errorf("without a leader: %d %s", w.Code, w.Body)
		}
	})
}

// firstBlock returns a block of one record.
func firstBlock(t *testing.T) []byte {
	t.Helper()
	r := chain.Record{Project: 1, Time: 7, Payload: []byte("a payload")}
	encoded := r.AppendTo(nil)
	tree := chain.Tree{}.Append(r.Leaf().Hash())
	b, err := chain.NewBlock(chain.Header{Version: chain.Version, Count: 1, Root: tree.Root(), Time: 7},
		[]uint32{uint32(len(encoded))}, encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestNoBlockBeforeRegistration checks that a storage node that was registered before its start accepts no block until
// it has registered again. Its height must not change between the registration and the leader's decision.
func TestNoBlockBeforeRegistration(t *testing.T) {
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}()
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	ready := worker.ErrNotRegistered
	h := workerapi.NewStorage(workerapi.StorageConfig{
		Node: node, Fence: fence, ID: func() string { return "s-1" }, Ready: func() error { return ready },
		MasterToken: "master", Bearers: always, Fail: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
	})
	put := func() (int, string) {
		r := httptest.NewRequest(http.MethodPut, wire.PathBlocks+"0", strings.NewReader("no block"))
		r.Header.Set("Authorization", "Bearer master")
		r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if status, body := put(); status != http.StatusServiceUnavailable || !strings.Contains(body, "not registered yet") {
		t.Errorf("%d %s", status, body)
	}
	if highest, _ := fence.Highest(); highest != (wire.Order{}) {
		t.Errorf("an order before the registration moved the fence to %v", highest)
	}
	ready = nil
	if status, body := put(); status != http.StatusUnprocessableEntity {
		t.Errorf("registered: %d %s", status, body)
	}
}

// quietNode returns a storage node with one block, in a bubble.
func quietNode(t *testing.T) (h http.Handler, node *storagenode.Node) {
	t.Helper()
	return quietNodeWith(t, nil)
}

// quietNodeWith is like quietNode, with a function that returns when a leader last replied to its registration.
func quietNodeWith(t *testing.T, answered func() time.Time) (h http.Handler, node *storagenode.Node) {
	t.Helper()
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Put(t.Context(), 0, firstBlock(t)); err != nil {
		t.Fatal(err)
	}
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	return workerapi.NewStorage(workerapi.StorageConfig{
		Node: node, Fence: fence, ID: func() string { return "s-1" }, Group: func() string { return "g" },
		Ready: func() error { return nil }, MasterToken: "master", Bearers: always, Secrets: nodeauth.Shared("cluster"),
		Answered: answered,
		Fail:     func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger(),
	}), node
}

// ask sends a request, with an order if the token is the master token.
func ask(h http.Handler, method, path, token, body string, order wire.Order) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set(wire.HeaderFence, order.String())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestNewEpochNeedsQuiet checks that a storage node reports the time since a leader's last order, accepted or refused,
// or since its start, and that it accepts a new epoch only after a minute without orders.
func TestNewEpochNeedsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, node := quietNode(t)
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		quiet := func(want time.Duration, ordered bool) {
			t.Helper()
			var s wire.ChainStatus
			if err := json.Unmarshal(ask(h, http.MethodGet, wire.PathChain, "cluster", "", wire.Order{}).Body.Bytes(),
				&s); err != nil {
				t.Fatal(err)
			}
			if s.QuietMillis == nil || *s.QuietMillis != uint64(want.Milliseconds()) || s.Ordered != ordered {
				t.Errorf("%+v, quiet for %v, want %v, %v", s, s.QuietMillis, want, ordered)
			}
		}
		raise := func(epoch int, claim, rest string) *httptest.ResponseRecorder {
			body := fmt.Sprintf(`{"group":"g","epoch":%d,"claim":%q%s}`, epoch, claim, rest)
			return ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", body, wire.Order{})
		}
		expect := func(w *httptest.ResponseRecorder, status int, says string) {
			t.Helper()
			if w.Code != status || !strings.Contains(w.Body.String(), says) {
				t.Errorf("%d %s, want %d %q", w.Code, w.Body, status, says)
			}
		}
		order := func(o wire.Order) *httptest.ResponseRecorder {
			return ask(h, http.MethodGet, wire.PathWorkerStatus, "master", "", o)
		}
		time.Sleep(10 * time.Second)
		quiet(10*time.Second, false)
		expect(raise(2, "a", ""), http.StatusForbidden, "was started 10s ago")
		expect(order(wire.Order{Epoch: 1, Term: 5}), http.StatusOK, "")
		time.Sleep(59 * time.Second)
		quiet(59*time.Second, true)
		expect(raise(2, "a", ""), http.StatusForbidden, "an order 59s ago")
		expect(order(wire.Order{Epoch: 1, Term: 4}), http.StatusConflict, "deposed") // refused, but counts as contact
		quiet(0, true)
		time.Sleep(time.Minute)
		other := `{"group":"h","epoch":2,"claim":"a"}`
		w := ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", other, wire.Order{})
		expect(w, http.StatusConflict, "other-group")
		expect(raise(0, "a", ""), http.StatusBadRequest, "")
		expect(raise(2, "", ""), http.StatusBadRequest, "")
		expect(raise(1, "a", ""), http.StatusConflict, "fenced")
		expect(raise(2, "a", ""), http.StatusOK, `"epoch":2,"height":1`)
		expect(raise(2, "a", ""), http.StatusOK, `"epoch":2`)
		expect(raise(2, "b", ""), http.StatusConflict, "fenced")
		expect(raise(2, "b", `,"keep":0`), http.StatusConflict, "fenced")
		expect(order(wire.Order{Epoch: 1, Term: 6}), http.StatusConflict, `"epoch":2`)
		expect(raise(2, "a", `,"keep":0`), http.StatusForbidden, "an order 0s ago")
		time.Sleep(time.Minute)
		expect(raise(2, "a", `,"keep":1`), http.StatusOK, `"height":1`)
		expect(raise(2, "a", `,"keep":0`), http.StatusOK, `"height":0`)
		expect(order(wire.Order{Epoch: 2, Term: 1}), http.StatusOK, "")
	})
}

// TestNewEpochHoldsForBlocksUnderWay checks that a block is refused if its order passed the fence, but the fence is
// raised before its body has arrived.
func TestNewEpochHoldsForBlocksUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, node := quietNode(t)
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		body, sender := io.Pipe()
		r := httptest.NewRequest(http.MethodPut, wire.PathBlocks+"1", body)
		r.Header.Set("Authorization", "Bearer master")
		r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
		w, put := httptest.NewRecorder(), make(chan struct{})
		go func() {
			defer close(put)
			h.ServeHTTP(w, r)
		}()
		synctest.Wait()
		time.Sleep(time.Minute)
		raise := `{"group":"g","epoch":2,"claim":"a"}`
		if w := ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", raise, wire.Order{}); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if err := sender.Close(); err != nil {
			t.Error(err)
		}
		<-put
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "fenced") {
			t.Errorf("the block: %d %s", w.Code, w.Body)
		}
	})
}

// raiseTo makes a quiet node store an epoch.
func raiseTo(t *testing.T, h http.Handler, epoch int) {
	t.Helper()
	time.Sleep(time.Minute)
	body := fmt.Sprintf(`{"group":"g","epoch":%d,"claim":"a"}`, epoch)
	if w := ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", body, wire.Order{}); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestNewEpochHoldsForOrdersUnderWay checks that an order for a check or a repair is refused if it passed the fence,
// but the fence is raised before its body has arrived.
func TestNewEpochHoldsForOrdersUnderWay(t *testing.T) {
	for path, order := range map[string]string{
		wire.PathReceive: `{"ticket":"old","keep":0,"pieces":[]}`,
		wire.PathSend:    `{"ticket":"old","attempt":1,"to":"http://x","pieces":[]}`,
		wire.PathCheck:   `{"check":"old","height":1}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			h, node := quietNode(t)
			defer func() {
				if err := node.Close(); err != nil {
					t.Error(err)
				}
			}()
			body, sender := io.Pipe()
			r := httptest.NewRequest(http.MethodPost, path, body)
			r.Header.Set("Authorization", "Bearer master")
			r.Header.Set(wire.HeaderFence, wire.Order{Epoch: 1, Term: 1}.String())
			w, done := httptest.NewRecorder(), make(chan struct{})
			go func() {
				defer close(done)
				h.ServeHTTP(w, r)
			}()
			synctest.Wait()
			raiseTo(t, h, 2)
			if _, err := io.WriteString(sender, order); err != nil {
				t.Error(err)
			}
			if err := sender.Close(); err != nil {
				t.Error(err)
			}
			<-done
			if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "fenced") ||
				node.Status().Height != 1 {
				t.Errorf("%s: %d %s, height %d", path, w.Code, w.Body, node.Status().Height)
			}
		})
	}
}

// TestNewEpochEndsARepair checks that a repair that an older leader ordered accepts no block after the fence is raised.
func TestNewEpochEndsARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, node := quietNode(t)
		result, gate := make(chan *httptest.ResponseRecorder, 1), make(chan struct{})
		source, err := storagenode.Open(storagenode.Config{Dir: t.TempDir(), Logger: hclog.NewNullLogger(),
			Transfer: func(_ context.Context, _, ticket string, write func(io.Writer) error) error {
				<-gate
				var stream bytes.Buffer
				err := write(&stream)
				result <- ask(h, http.MethodPost, wire.PathTransfer, ticket, stream.String(), wire.Order{})
				return err
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(node.Close(), source.Close()); err != nil {
				t.Error(err)
			}
		}()
		if _, err := source.Put(t.Context(), 0, firstBlock(t)); err != nil {
			t.Fatal(err)
		}
		pieces := []wire.Piece{{Range: chain.Range{From: 0, To: 1}, Hash: source.Status().Hash}}
		order, err := json.Marshal(wire.ReceiveOrder{Ticket: "T", Keep: 0, Pieces: pieces})
		if err != nil {
			t.Fatal(err)
		}
		w := ask(h, http.MethodPost, wire.PathReceive, "master", string(order), wire.Order{Epoch: 1, Term: 1})
		if w.Code != http.StatusOK || node.Status().Height != 0 {
			t.Fatalf("%d %s, height %d", w.Code, w.Body, node.Status().Height)
		}
		send := wire.SendOrder{Ticket: "T", Attempt: 1, To: "x", Pieces: pieces}
		if _, err := source.Send(t.Context(), send); err != nil {
			t.Fatal(err)
		}
		raiseTo(t, h, 2)
		close(gate)
		if w := <-result; w.Code != http.StatusUnauthorized || node.Status().Height != 0 {
			t.Errorf("%d %s, height %d", w.Code, w.Body, node.Status().Height)
		}
	})
}

// TestNewEpochNeedsQuietRegistrations checks that a leader's reply to a registration counts as contact, like an order.
func TestNewEpochNeedsQuietRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answered time.Time
		h, node := quietNodeWith(t, func() time.Time { return answered })
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Hour)
		answered = time.Now()
		time.Sleep(59 * time.Second)
		var s wire.ChainStatus
		w := ask(h, http.MethodGet, wire.PathChain, "cluster", "", wire.Order{})
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || s.QuietMillis == nil || *s.QuietMillis != 59_000 ||
			!s.Ordered {
			t.Errorf("%s, %v", w.Body, err)
		}
		raise := `{"group":"g","epoch":2,"claim":"a"}`
		w = ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", raise, wire.Order{})
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "59s ago") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		time.Sleep(time.Second)
		w = ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", raise, wire.Order{})
		if w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestNewEpochIsNotFarAhead checks that a request with the cluster token cannot use up all epochs of a group.
func TestNewEpochIsNotFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, node := quietNode(t)
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		if w := ask(h, http.MethodGet, wire.PathWorkerStatus, "master", "",
			wire.Order{Epoch: 5, Term: 1}); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		time.Sleep(time.Minute)
		for epoch, status := range map[string]int{"18446744073709551615": 400, "1006": 400} {
			body := `{"group":"g","epoch":` + epoch + `,"claim":"a"}`
			if w := ask(h, http.MethodPost, wire.PathChainEpoch, "cluster", body, wire.Order{}); w.Code != status {
				t.Errorf("epoch %s: %d %s", epoch, w.Code, w.Body)
			}
		}
		raiseTo(t, h, 1005)
	})
}

// TestChainTellsWhoLed checks that a node reports the epoch of the last leader to a recovery, even after a restart.
func TestChainTellsWhoLed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, node := quietNode(t)
		defer func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}()
		led := func(want string) {
			t.Helper()
			w := ask(h, http.MethodGet, wire.PathChain, "cluster", "", wire.Order{})
			if got := strings.Contains(w.Body.String(), `"led_epoch"`); got != (want != "") ||
				!strings.Contains(w.Body.String(), want) {
				t.Errorf("%s, want %q", w.Body, want)
			}
		}
		led("")
		ask(h, http.MethodGet, wire.PathWorkerStatus, "master", "", wire.Order{Epoch: 1, Term: 1})
		raiseTo(t, h, 2)
		led(`"led_epoch":1`)
	})
}

// TestLateOrderOfADeposedLeader checks, with real connections, that an order has no effect whose body arrives after an
// order of a newer leader, however much of it was read before.
func TestLateOrderOfADeposedLeader(t *testing.T) {
	for path, body := range map[string]string{
		"POST " + wire.PathReceive:    `{"ticket":"old","keep":0,"pieces":[]}`,
		"POST " + wire.PathSend:       `{"ticket":"old","attempt":1,"to":"http://x","pieces":[]}`,
		"POST " + wire.PathCheck:      `{"check":"old","height":1}`,
		"PUT " + wire.PathInbox + "1": "a block",
	} {
		for _, sent := range []int{0, 1, len(body) - 1} {
			h, node := quietNode(t)
			server := httptest.NewServer(h)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			send := func(format string, args ...any) {
				t.Helper()
				if _, err := fmt.Fprintf(conn, format, args...); err != nil {
					t.Fatal(err)
				}
			}
			send("%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer master\r\n%s: 1.5\r\nContent-Length: %d\r\n"+
				"Expect: 100-continue\r\n\r\n", path, wire.HeaderFence, len(body))
			answers := bufio.NewReader(conn)
			// The server asks for the body once the order has passed the fence.
			if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
				t.Fatalf("%s: %q, %v", path, line, err)
			}
			if _, err := answers.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			send("%s", body[:sent])
			status, err := http.NewRequest(http.MethodGet, server.URL+wire.PathWorkerStatus, nil)
			if err != nil {
				t.Fatal(err)
			}
			status.Header.Set("Authorization", "Bearer master")
			status.Header.Set(wire.HeaderFence, "1.6")
			newer, err := http.DefaultClient.Do(status)
			if err != nil || newer.StatusCode != http.StatusOK {
				t.Fatalf("the newer leader: %+v, %v", newer, err)
			}
			_ = newer.Body.Close()
			send("%s", body[sent:])
			answer, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(answer.Body)
			if answer.StatusCode != http.StatusConflict || !strings.Contains(string(text), "fenced") ||
				node.Status().Height != 1 {
				t.Errorf("%s after %d bytes: %s %s, height %d", path, sent, answer.Status, text, node.Status().Height)
			}
			_ = conn.Close()
			server.Close()
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// always lets older masters send tokens.
func always() bool { return true }
