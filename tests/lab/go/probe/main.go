// A few megabytes that stand for an application in tests of the lab: serves, asks, looks up names, reads and writes.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// serve answers every request with this pod's name, until told to end.
func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%s %s\n", r.Method, r.URL.Path)
		fmt.Fprintln(w, name)
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	server := &http.Server{Addr: address, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Println("serving on", address)
	select {
	case err := <-failed:
		return err
	case <-stop:
		return server.Close()
	}
}

func get(url string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

func lookup(name string) error {
	addresses, err := net.LookupHost(name)
	fmt.Println(strings.Join(addresses, "\n"))
	return err
}

func read(path string) error {
	content, err := os.ReadFile(path)
	fmt.Print(string(content))
	return err
}

func main() {
	arguments := append(os.Args[1:], "", "", "")
	var err error
	switch first, second := arguments[1], arguments[2]; arguments[0] {
	case "serve":
		err = serve(first)
	case "get":
		err = get(first)
	case "lookup":
		err = lookup(first)
	case "read":
		err = read(first)
	case "write":
		err = os.WriteFile(first, []byte(second), 0o644)
	case "say":
		fmt.Println(first)
	default:
		err = fmt.Errorf("serve ADDRESS | get URL | lookup NAME | read PATH | write PATH TEXT | say TEXT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
