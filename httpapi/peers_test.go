package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
)

// TestSecure sends requests over TLS: of users with HTTP/1.1 and HTTP/2, and of nodes. Only nodes have a peer, the
// connections are those of the limited listener, and routes refuse other roles.
func TestSecure(t *testing.T) {
	authority := certstest.NewAuthority(t)
	store := certstest.Open(t, authority, certs.Master, "m1")
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := New(hclog.NewNullLogger())
	e.GET("/who", func(c *gin.Context) {
		id, _ := Peer(c)
		if connectionOf(c.Request) == nil {
			t.Error("the connection is not known")
		}
		c.String(http.StatusOK, "%s %d", id.Name, c.Request.ProtoMajor)
	})
	e.GET("/masters", e.Only(true, certs.Master), func(c *gin.Context) { c.Status(http.StatusNoContent) })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	limited := Limit(plain, ConnectionLimits{Total: 10, PerAddress: 10}, hclog.NewNullLogger())
	go func() { ended <- ServeUsers(ctx, SecureUsers(limited, store, nil), e, hclog.NewNullLogger()) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	user := func(protocols ...string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
	}
	for _, row := range []struct {
		name   string
		config *tls.Config
		http2  bool
		who    string
		status int // of the route for masters
	}{
		{"a user", user(), false, " 1", http.StatusForbidden},
		{"a user of HTTP/2", user("h2"), true, " 2", http.StatusForbidden},
		{"a master", certstest.Open(t, authority, certs.Master, "m2").Client("127.0.0.1"), false, "m2 1",
			http.StatusNoContent},
		{"a miner", certstest.Open(t, authority, certs.Miner, "x").Client("127.0.0.1"), false, "x 1",
			http.StatusForbidden},
	} {
		transport := &http.Transport{TLSClientConfig: row.config, ForceAttemptHTTP2: row.http2, DisableKeepAlives: true}
		client := &http.Client{Transport: transport}
		answer, err := client.Get("https://" + plain.Addr().String() + "/who")
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != row.who {
			t.Errorf("%s: %q, %v, expected %q", row.name, body, err, row.who)
		}
		_ = answer.Body.Close() // it was read
		answer, err = client.Get("https://" + plain.Addr().String() + "/masters")
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if answer.StatusCode != row.status {
			t.Errorf("%s gets %d, expected %d", row.name, answer.StatusCode, row.status)
		}
		_ = answer.Body.Close() // its content does not matter
	}
}

// TestSlowReaderWithTLS requests a large answer at once after the handshake, and reads nothing. Package http resets the
// deadlines of a connection after its handshake.
func TestSlowReaderWithTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := certstest.NewAuthority(t)
		store := certstest.Open(t, authority, certs.Master, "m1")
		here, there := net.Pipe()
		defer there.Close()
		result := make(chan error, 1)
		serveWith(t, engineOf(func(c *gin.Context) error {
			_, err := c.Writer.Write(make([]byte, 4<<20))
			result <- err
			return nil
		}), here, unsent, func(l net.Listener) net.Listener { return Secure(l, store, nil) })
		client := tls.Client(there, &tls.Config{InsecureSkipVerify: true})
		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		select {
		case err := <-result:
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > grace+2*writeStep {
				t.Errorf("after %v: %v", took, err)
			}
		case <-time.After(time.Hour):
			t.Error("the client was not cut off within an hour")
		}
	})
}
