package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

// TestAppendReceipt checks that the receipt of an append is written to its file, whether the response contains it or a
// checkpoint covers the record later.
func TestAppendReceipt(t *testing.T) {
	for _, uncovered := range []int{0, 3} {
		f := clitest.NewCluster(t)
		f.Use(t)
		f.Uncovered = uncovered
		out, errs, err := run(t, strings.NewReader("a"), "append", "--wait", "--receipt", "a.receipt", "--key", "k")
		if want := "1 record appended at block 0, offset 0 (index 0), stored\n"; err != nil || out != want ||
			errs != "" {
			t.Fatalf("%q, %q, %v", out, errs, err)
		}
		data, err := os.ReadFile("a.receipt")
		if err != nil {
			t.Fatal(err)
		}
		var r wire.Receipt
		if err := json.Unmarshal(data, &r); err != nil || r.Key != "k" {
			t.Fatalf("%s, %v", data, err)
		}
		if err := client.CheckReceipt(&r); err != nil {
			t.Error(err)
		}
	}
}

func TestAppendReceiptErrors(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	for _, args := range [][]string{{"--receipt", "r"}, {"--receipt", "r", "--wait", "--lines"}} {
		_, _, err := run(t, strings.NewReader("a"), append([]string{"append"}, args...)...)
		clitest.MustFail(t, err, "--receipt needs --wait and does not go with --lines")
	}
	if len(f.Payloads()) != 0 {
		t.Errorf("appended %q", f.Payloads())
	}
	f.Uncovered = 1 << 30
	out, _, err := run(t, strings.NewReader("a"), "append", "--wait", "--receipt", "r", "--timeout", "50ms")
	clitest.MustFail(t, err, "appended and stored, but there is no receipt: no checkpoint covered it within 50ms; "+
		"get it later with 'chainstore receipt 0 0'")
	if !strings.Contains(out, "stored") {
		t.Errorf("the position is missing: %q", out)
	}
	f = clitest.NewCluster(t)
	f.Use(t)
	_, _, err = run(t, strings.NewReader("a"), "append", "--wait", "--receipt", "no/such/folder")
	clitest.MustFail(t, err, "appended and stored, but the receipt could not be written: ")
	clitest.MustFail(t, err, "get it later with 'chainstore receipt 0 0'")
}
