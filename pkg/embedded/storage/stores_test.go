//go:build objectstorage

package storage

import (
	"context"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

// TestSettingsReachTheDrivers sees each driver refuse a bad value, and take
// good ones: S3 is tested against a real server elsewhere, GCS and Azure have
// none that could run here.
func TestSettingsReachTheDrivers(t *testing.T) {
	const account = `{"type":"service_account","client_email":"a@example.com","private_key_id":"1","private_key":"not checked before use","token_uri":"https://example.com/token"}`
	secrets := func(_ context.Context, ref schema.SecretRef) (string, error) {
		switch ref.Env {
		case "OCISYNC_ACCOUNT":
			return account, nil
		case "OCISYNC_KEY":
			return "c2VjcmV0", nil // base64, as Azure's are
		}
		return "the secret itself", nil
	}
	ref := func(name string) *schema.SecretRef { return &schema.SecretRef{Env: name} }
	shared := schema.AzureCredentials{Type: "shared_key"}
	for _, c := range []struct {
		name string
		with schema.Storage
		want string // in the error; "" for none
	}{
		{"s3", schema.Storage{S3: &schema.S3Storage{Region: "us-east-1", Bucket: "b", SecretKey: ref("OCISYNC_X"), AccessKey: new("a"), ChunkSize: new(int64(6 << 20))}}, ""},
		{"s3 region", schema.Storage{S3: &schema.S3Storage{Region: "nowhere", Bucket: "b"}}, "invalid region"},
		{"s3 bucket", schema.Storage{S3: &schema.S3Storage{Region: "us-east-1"}}, "no bucket"},
		{"s3 chunk", schema.Storage{S3: &schema.S3Storage{Region: "us-east-1", Bucket: "b", ChunkSize: new(int64(1))}}, "chunksize"},
		{"gcs", schema.Storage{GCS: &schema.GCSStorage{Bucket: "b", Credentials: ref("OCISYNC_ACCOUNT"), ChunkSize: new(int64(262144)), MaxConcurrency: new(int64(30))}}, ""},
		{"gcs chunk", schema.Storage{GCS: &schema.GCSStorage{Bucket: "b", Credentials: ref("OCISYNC_ACCOUNT"), ChunkSize: new(int64(262145))}}, "multiple of"},
		{"gcs credentials", schema.Storage{GCS: &schema.GCSStorage{Bucket: "b", Credentials: ref("OCISYNC_X")}}, "not the JSON"},
		{"azure", schema.Storage{Azure: &schema.AzureStorage{AccountName: "a", Container: "c", Credentials: &shared, AccountKey: ref("OCISYNC_KEY"), MaxRetries: new(int64(2)), RetryDelay: new("50ms")}}, ""},
		{"azure key", schema.Storage{Azure: &schema.AzureStorage{AccountName: "a", Container: "c", Credentials: &shared, AccountKey: ref("OCISYNC_X")}}, "base64"},
		{"azure delay", schema.Storage{Azure: &schema.AzureStorage{AccountName: "a", Container: "c", Credentials: &shared, AccountKey: ref("OCISYNC_KEY"), RetryDelay: new("soon")}}, "soon"},
		{"azure container", schema.Storage{Azure: &schema.AzureStorage{AccountName: "a", AccountKey: ref("OCISYNC_KEY")}}, "no container"},
	} {
		c.with.Source = schema.Position{File: "modes/m/m.toml", Line: 7}
		s, err := Open(t.Context(), t.TempDir(), Bucket{&c.with, secrets})
		if c.want == "" && (err != nil || !s.InBucket()) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), "modes/m/m.toml:7: registry.run.storage.") || strings.Contains(err.Error(), "secret itself")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
