package masterapi_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// Configurations as docs/api.md recommends them, with a folder, an address to listen on and that of a master. nginx
// must have no worker process: a kill would leave it running.
const (
	nginxConfig = `
daemon off;
master_process off;
error_log stderr;
pid %[1]s/pid;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  client_max_body_size 0;
  server {
    listen %[2]s;
    location / {
      proxy_pass http://%[3]s;
      proxy_http_version 1.1;
    }
  }
}
`
	haproxyConfig = `
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
frontend users
  bind %[2]s
  default_backend masters
backend masters
  server m1 %[3]s
`
)

// TestAppendStreamThroughProxies sends streams through real proxies: records that are sent while answers are read,
// where the proxy can do that, and records that are all sent first.
func TestAppendStreamThroughProxies(t *testing.T) {
	c := startCluster(t)
	c.awaitStreams()
	for _, proxy := range []struct {
		name, config string
		args         []string
		duplex       bool // it sends answers while it takes the body
	}{
		{"nginx", nginxConfig, []string{"-c"}, false},
		{"haproxy", haproxyConfig, []string{"-db", "-f"}, true},
	} {
		t.Run(proxy.name, func(t *testing.T) {
			program, err := exec.LookPath(proxy.name)
			if err != nil {
				t.Skipf("NO %s: %v", strings.ToUpper(proxy.name), err)
			}
			dir := t.TempDir()
			listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			file := filepath.Join(dir, "conf")
			config := fmt.Sprintf(proxy.config, dir, listen, strings.TrimPrefix(c.file.Masters[1], "http://"))
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.Command(program, append(proxy.args, file)...)
			var said bytes.Buffer
			command.Stdout, command.Stderr = &said, &said
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = command.Process.Kill()
				_ = command.Wait()
				if t.Failed() {
					t.Log(said.String())
				}
			})
			for end := time.Now().Add(20 * time.Second); ; {
				conn, err := net.Dial("tcp", listen)
				if err == nil {
					_ = conn.Close()
					break
				}
				if time.Now().After(end) {
					t.Fatal(err)
				}
			}
			client := &http.Client{Transport: &http.Transport{}}
			if proxy.duplex {
				d := openStream(t, client, "http://"+listen, c.file.Tokens.Project, "", wire.TypeNDJSON)
				for n := uint64(1); n <= 20; n++ {
					d.send("{\"text\":\"x\"}\n")
					if a := d.next(); a.Number != n {
						t.Fatalf("record %d: %+v", n, a)
					}
				}
				if a := d.end(); a.Number != 20 || a.Problem != nil {
					t.Errorf("the last line: %+v, %+v", a, a.Problem)
				}
			}
			const many = 1000 // no more than the window
			d := openStream(t, client, "http://"+listen, c.file.Tokens.Project, "", wire.TypeNDJSON)
			d.send(strings.Repeat("{\"text\":\"x\"}\n", many))
			if a := d.end(); a.Number != many || a.Problem != nil {
				t.Errorf("the last line: %+v, %+v", a, a.Problem)
			}
			batcherThrough(t, "http://"+listen, c.file.Tokens.Project)
		})
	}
}

// batcherThrough appends with a Batcher through a proxy, first a few records one after the other, then many. All must
// go through one stream.
func batcherThrough(t *testing.T, url, token string) {
	cl, err := client.New(client.Config{Masters: []string{url}, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.CloseIdle()
	unnamed := func() (records, streams uint64) {
		page, err := cl.AppendStreams(t.Context(), "", wire.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Streams {
			if s.Kind == wire.StreamUnnamed {
				records, streams = records+s.Last, streams+1
			}
		}
		return records, streams
	}
	before, streams := unnamed()
	b := cl.NewBatcher(t.Context(), client.BatcherConfig{})
	const few, all = 3, 5000
	for i := range all {
		if _, err := b.Add(t.Context(), client.Entry{Payload: fmt.Appendf(nil, "batcher %d", i)}); err != nil {
			t.Fatal(err)
		}
		if i >= few {
			continue
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if records, now := unnamed(); records != before+all || now != streams+1 {
		t.Errorf("%d records in %d streams, want %d in one", records-before, now-streams, all)
	}
}
