package verify

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// page is what a proxy shows in place of the log.
const page = "<!DOCTYPE html>\n<html><body>Please log in.</body></html>"

// notTheLog are answers that say nothing about the log: they are from another program, or there is no answer.
var notTheLog = map[string]http.HandlerFunc{
	"no connection":        func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"401":                  answerOf(401, "text/plain", "no"),
	"403 of a proxy":       answerOf(403, "text/html", page),
	"403 of a program":     answerOf(403, wire.TypeProblem, `{"type":"https://example.com/forbidden","status":403}`),
	"403 without a body":   answerOf(403, "", ""),
	"404 of a proxy":       answerOf(404, "text/html", page),
	"410 of a proxy":       answerOf(410, "text/html", page),
	"410 of a program":     answerOf(410, wire.TypeProblem, `{"type":"lost","status":410}`),
	"410 without a body":   answerOf(410, "", ""),
	"500":                  answerOf(500, "text/html", page),
	"503":                  answerOf(503, "text/html", page),
	"503 as lost":          answerOf(503, wire.TypeProblem, `{"type":"`+wire.ProblemBase+`lost","status":410}`),
	"200, a page":          answerOf(200, "text/html; charset=utf-8", page),
	"200, a page as text":  answerOf(200, "text/plain", page),
	"200, a page as bytes": answerOf(200, wire.TypeOctets, " \n"+page),
	"200, empty":           answerOf(200, wire.TypeOctets, ""),
	"200, {}":              answerOf(200, "application/json", "{}"),
	"200, null":            answerOf(200, "application/json", "null"),
	"200, a problem":       answerOf(200, wire.TypeProblem, `{"type":"`+wire.ProblemBase+`lost","status":410}`),
	"204":                  answerOf(204, "", ""),
	"206":                  answerOf(206, wire.TypeOctets, "abc"),
	"302":                  answerOf(302, "text/html", page),
	"200, broken off": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("chainstore/test\n"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	},
}

func answerOf(status int, media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if media != "" {
			w.Header().Set("Content-Type", media)
		}
		w.WriteHeader(status)
		if body != "" {
			_, _ = w.Write([]byte(body))
		}
	}
}

// TestLogCannotLook checks that an audit which gets no answer of the log is neither good nor a finding against the log.
// It fails, and its report and its state have only what was verified.
func TestLogCannotLook(t *testing.T) {
	counts := []int{3, 300, 4}
	before := newTestLog(t, counts[:2]...)
	_, since, err := before.audit(before.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLog(t, counts...)
	for stage, s := range map[string]struct {
		path   string
		since  *State
		height uint64 // of blocks that are verified all the same
	}{
		"the checkpoint":           {"checkpoint", nil, 0},
		"the first leaves":         {"tile/entries/000", nil, 0},
		"later leaves":             {"tile/entries/001", nil, 0},
		"hashes of an earlier run": {"tile/0/", since, 2},
		"the first records":        {"v1/blocks/0/", nil, 0},
		"later records":            {"v1/blocks/1/", nil, 0},
		"the last records":         {"v1/blocks/2/", since, 2},
	} {
		for name, answer := range notTheLog {
			t.Run(stage+", "+name, func(t *testing.T) {
				t.Parallel()
				if strings.HasPrefix(name, "404") && strings.HasPrefix(s.path, "tile/0/") {
					return // a log need not serve hashes: the leaves show the same
				}
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/"), s.path) {
						answer(w, r)
						return
					}
					l.ServeHTTP(w, r)
				}))
				defer server.Close()
				report, left, err := l.audit(server.URL, s.since, withToken)
				if err == nil || len(report.Findings) > 0 || report.Hidden > 3+150+2 {
					t.Errorf("findings %v, hidden %d, error %v", report.Findings, report.Hidden, err)
				}
				if report.Height != s.height || left != nil && left.Head.Height != s.height {
					t.Errorf("%d blocks count as verified, want %d", report.Height, s.height)
				}
				if len(report.Unchecked) > 0 || report.UncheckedLeaves > 0 {
					t.Errorf("%v count as lost", report.Unchecked)
				}
			})
		}
	}
}

// without is a transport without a network. It fails a request with an error, or answers it with a handler.
type without func(*http.Request) (http.Handler, error)

func (f without) RoundTrip(r *http.Request) (*http.Response, error) {
	h, err := f(r)
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// TestLogEndsInTheMiddle checks that an audit whose log goes away fails, whichever of its requests is the first
// without an answer.
func TestLogEndsInTheMiddle(t *testing.T) {
	l := newTestLog(t, 3, 300, 4)
	for last := int64(0); ; last++ {
		var asked atomic.Int64
		client := http.Client{Transport: without(func(*http.Request) (http.Handler, error) {
			if asked.Add(1) > last {
				return nil, io.ErrUnexpectedEOF
			}
			return l, nil
		})}
		report, _, err := l.audit("http://log.test", nil, withToken, func(o *Options) { o.HTTP = &client })
		if asked.Load() <= last {
			if err != nil || report.Height != 3 {
				t.Errorf("with all answers: %+v, %v", report, err)
			}
			return
		}
		if err == nil || !report.Good() || report.Height == 3 {
			t.Errorf("after %d answers: %+v, %v", last, report, err)
		}
	}
}

// TestRecordsWithoutContent checks that a record which an answer neither shows nor calls hidden is not counted as
// hidden.
func TestRecordsWithoutContent(t *testing.T) {
	l := newTestLog(t, 1)
	l.answers(func(w http.ResponseWriter, path string) bool {
		records := strings.HasPrefix(path, "v1/blocks/")
		if records {
			_, _ = w.Write([]byte(`{"records":[{}]}`))
		}
		return records
	})
	report, _, err := l.audit(l.serve(), nil, withToken)
	if err == nil || report.Hidden > 0 || !strings.Contains(err.Error(), "neither its content nor that it is hidden") {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestRecordsOfManyElements checks that a page of records whose lists would take much memory is refused before it is
// decoded.
func TestRecordsOfManyElements(t *testing.T) {
	l := newTestLog(t, 1)
	l.answers(func(w http.ResponseWriter, path string) bool {
		records := strings.HasPrefix(path, "v1/blocks/")
		if records {
			_, _ = w.Write([]byte(`{"records":[` + strings.Repeat("{},", 200_000) + `{}]}`))
		}
		return records
	})
	report, _, err := l.audit(l.serve(), nil, withToken)
	if err == nil || !report.Good() || !strings.Contains(err.Error(), "elements") {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestPayloadFindingIsNotHidden checks that a record that does not fit its leaf is found although the records of an
// earlier block cannot be read.
func TestPayloadFindingIsNotHidden(t *testing.T) {
	l := newTestLog(t, 3, 3)
	record := l.records[4]
	record.Payload[0] ^= 1
	l.answers(func(w http.ResponseWriter, path string) bool {
		fails := strings.HasPrefix(path, "v1/blocks/0/")
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return fails
	})
	report, _, _ := l.audit(l.serve(), nil, withToken)
	if codes(report.Findings) != CodePayload {
		t.Errorf("%+v", report)
	}
}

// TestHiddenAndLostAreCounted checks that the refusals of ChainStore itself are counted: records that the token may
// not read as hidden, and records of a lost block as unchecked.
func TestHiddenAndLostAreCounted(t *testing.T) {
	for _, c := range []struct {
		problem   *wire.ProblemType
		hidden    uint64
		unchecked []chain.Range
	}{
		{wire.ErrForbidden, 4, nil},
		{wire.ErrLost, 0, []chain.Range{{From: 0, To: 1}}},
	} {
		l := newTestLog(t, 4)
		l.answers(func(w http.ResponseWriter, path string) bool {
			records := strings.HasPrefix(path, "v1/blocks/")
			if records {
				data, err := json.Marshal(c.problem.Problem(c.problem))
				if err != nil {
					t.Error(err)
				}
				w.Header().Set("Content-Type", wire.TypeProblem)
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				w.WriteHeader(c.problem.Status)
				_, _ = w.Write(data)
			}
			return records
		})
		report, _, err := l.audit(l.serve(), nil, withToken)
		if err != nil || report.Payloads != 0 || report.Hidden != c.hidden ||
			!reflect.DeepEqual(report.Unchecked, c.unchecked) {
			t.Errorf("%v: %+v, %v", c.problem, report, err)
		}
	}
}
