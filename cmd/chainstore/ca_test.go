package main

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mustRun runs a command that must not fail, and returns what it prints.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := run(t, nil, args...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TestCA makes an authority and a certificate, renews and shows it, and refuses to replace files.
func TestCA(t *testing.T) {
	dir := t.TempDir()
	ca, out := filepath.Join(dir, "ca"), filepath.Join(dir, "certs")
	mustRun(t, "ca", "init", "bank.example", "--dir", ca)
	mustRun(t, "ca", "issue", "master", "m1", "--host", "m1.bank.example,10.0.0.1", "--dir", ca, "--out", out)
	cert, key := filepath.Join(out, "m1.pem"), filepath.Join(out, "m1-key.pem")
	for _, path := range []string{key, filepath.Join(ca, "ca-key.pem")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	before, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args []string
		text string
	}{
		{[]string{"init", "bank.example", "--dir", ca}, "exists already"},
		{[]string{"init", "Bank", "--dir", dir}, "must have 1 to 63 of"},
		{[]string{"issue", "master", "m1", "--host", "h", "--dir", ca, "--out", out}, "exists already"},
		{[]string{"issue", "witness", "w", "--host", "h", "--dir", ca, "--out", out}, "none of master, storage, miner"},
		{[]string{"issue", "master", "m2", "--dir", ca, "--out", out}, "with --host"},
		{[]string{"issue", "master", "m2", "--host", "h", "--dir", dir, "--out", out}, "ca init"},
		{[]string{"issue", "master", "m2", "--host", "h", "--dir", ca, "--out", out, "--days", "0"}, "--days 0"},
		{[]string{"renew", filepath.Join(ca, "ca.pem"), "--dir", ca}, "is an authority"},
		{[]string{"renew", key, "--dir", ca}, "is a private key"},
		{[]string{"show", key}, "is a private key"},
		{[]string{"show"}, "name the certificates"},
		{[]string{"renew", cert, filepath.Join(dir, "missing.pem"), "--dir", ca}, "no such file"},
	} {
		_, _, err := run(t, nil, append([]string{"ca"}, row.args...)...)
		if err == nil || !strings.Contains(err.Error(), row.text) {
			t.Errorf("ca %s: %v, expected %q", strings.Join(row.args, " "), err, row.text)
		}
	}
	mustRun(t, "ca", "renew", cert, "--dir", ca, "--days", "10")
	after, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if after.Leaf.SerialNumber.Cmp(before.Leaf.SerialNumber) == 0 || time.Until(after.Leaf.NotAfter) > 11*24*time.Hour {
		t.Errorf("renewed: %v until %v", after.Leaf.SerialNumber, after.Leaf.NotAfter)
	}
	mustRun(t, "ca", "show", cert, "--within", "216h")
	if out, _, err := run(t, nil, "ca", "show", filepath.Join(ca, "ca.pem"), cert, "--within", "264h"); err == nil ||
		!strings.Contains(err.Error(), cert) || strings.Contains(err.Error(), "ca.pem") ||
		!strings.Contains(out, "spiffe://bank.example/master/m1") {
		t.Errorf("one that ends within 264h: %v, %q", err, out)
	}
	var shown []struct {
		Identity string
		Hosts    []string
	}
	if err := json.Unmarshal([]byte(mustRun(t, "ca", "show", cert, "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown) != 1 || shown[0].Identity != "spiffe://bank.example/master/m1" ||
		strings.Join(shown[0].Hosts, " ") != "m1.bank.example 10.0.0.1" {
		t.Errorf("shown: %+v", shown)
	}
}
