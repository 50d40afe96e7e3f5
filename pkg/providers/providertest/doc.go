// Package providertest is the suite that every provider passes, and what tests
// of other packages need to make a provider misbehave.
//
// A provider's test fills a [Harness] and calls [Run]; nothing else belongs
// there. cases.go holds one row per field of every kind, checks.go what is
// true of every provider whatever it supports, fault.go the failing provider.
package providertest
