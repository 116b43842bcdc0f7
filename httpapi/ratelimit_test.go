package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// accepted returns how many of n requests from an address a limit accepts now.
func accepted(t *testing.T, l *RateLimit, n int, host string) (ok int) {
	for range n {
		switch err := l.Take(&http.Request{RemoteAddr: host + ":1"}); {
		case err == nil:
			ok++
		case !errors.Is(err, wire.ErrTooManyRequests):
			t.Fatal(err)
		}
	}
	return ok
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := NewRateLimit("tests", 10, 50, hclog.New(&hclog.LoggerOptions{Output: &log}))
		for _, c := range []struct {
			after    time.Duration
			requests int
			from     string
			want     int
		}{
			{0, 100, "192.0.2.1", 50},
			{time.Second, 100, "192.0.2.1", 10},
			{0, 100, "192.0.2.2", 50},
			{0, 100, "[2001:db8::1]", 50},
			{0, 100, "[2001:db8::2]", 0},
			{0, 100, "[2001:db8:0:1::1]", 50},
			{time.Hour, 100, "192.0.2.1", 50},
		} {
			time.Sleep(c.after)
			if got := accepted(t, l, c.requests, c.from); got != c.want {
				t.Errorf("%d of %s are accepted, want %d", got, c.from, c.want)
			}
		}
		if want := uint64(50 + 90 + 50 + 50 + 100 + 50 + 50); l.Refused() != want {
			t.Errorf("%d refused, want %d", l.Refused(), want)
		}
		if n := strings.Count(log.String(), "too many tests"); n != 2 {
			t.Errorf("%d warnings in an hour with two floods:\n%s", n, &log)
		}
	})
}

// TestRateLimitIsBounded checks that a limit does not remember every address.
func TestRateLimitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewRateLimit("tests", 1, 1, hclog.NewNullLogger())
		for i := range maxAddresses + 100 {
			if accepted(t, l, 1, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)) != 1 {
				t.Fatal("a new address is refused")
			}
			if accepted(t, l, 1, "10.0.0.0") != 0 {
				t.Fatal("an address in use was forgotten")
			}
		}
		if len(l.buckets) != maxAddresses || l.recent.Len() != maxAddresses {
			t.Errorf("%d addresses", len(l.buckets))
		}
	})
}

func TestNoRateLimit(t *testing.T) {
	l := NewRateLimit("tests", 0, 0, hclog.NewNullLogger())
	if accepted(t, l, 100, "192.0.2.1") != 100 || l.Refused() != 0 {
		t.Error("no limit refuses")
	}
}
