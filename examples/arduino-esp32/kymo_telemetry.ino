// Untested on a board. Sends a reading every ten seconds over MQTT, from an ESP32 with the libraries PubSubClient and WiFi.
#include <PubSubClient.h>
#include <WiFi.h>

const char* wifiName = "your network";
const char* wifiPassword = "its password";
const char* server = "192.168.1.10";   // the machine that kymo runs on, bound to more than loopback: --mqtt-host 0.0.0.0
const uint16_t port = 1883;
const char* token = "tk_...";          // kymo tokens create --name esp32 --scopes ingest
const char* device = "esp32-1";
const unsigned long intervalMs = 10000;

WiFiClient network;
PubSubClient mqtt(network);
unsigned long lastSent = 0;

void connectAll() {
  while (WiFi.status() != WL_CONNECTED) {
    Serial.println("waiting for the network");
    delay(500);
  }
  while (!mqtt.connected()) {
    // The user name is free: the token is the password.
    if (mqtt.connect(device, "kymo", token)) return;
    Serial.printf("no connection to %s: state %d\n", server, mqtt.state());   // 5: the token is wrong
    delay(5000);
  }
}

void setup() {
  Serial.begin(115200);
  WiFi.mode(WIFI_STA);
  WiFi.begin(wifiName, wifiPassword);
  mqtt.setServer(server, port);
  mqtt.setKeepAlive(60);
}

void loop() {
  connectAll();
  mqtt.loop();
  if (millis() - lastSent < intervalMs) return;
  lastSent = millis();

  char topic[80];
  char message[120];
  snprintf(topic, sizeof topic, "devices/%s/telemetry", device);
  snprintf(message, sizeof message, "{\"temperature\":%.2f,\"rssi\":%d}", temperatureRead(), WiFi.RSSI());
  if (!mqtt.publish(topic, message)) Serial.println("not sent: connection lost, or the message is larger than the buffer");
}
