// An SVG picture, written shape by shape. Shapes have classes, not colours: chart_style() gives them colours in light and in
// dark, so that one picture fits a page, a print and a dark screen.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace spillway {

struct Point {
  double x = 0, y = 0;
};

// Text for XML and HTML, in content and in attributes: & < > " ' as entities, control characters as blanks.
std::string escaped(std::string_view text);

// Colours of series, by index; more series start again. Chosen to be told apart with any colour vision and to stand out
// from the page by 3:1 in light and dark.
inline constexpr int kSeriesColors = 7;

// Rules for all classes that the charts use: put them once into a page's <style>, or see Svg::standalone().
std::string chart_style();

// One picture of width × height units; a unit is a CSS pixel where the picture is shown at its own size.
class Svg {
 public:
  // title: what a screen reader says.
  Svg(double width, double height, std::string_view title);

  void line(Point from, Point to, std::string_view classes);
  void polyline(std::span<const Point> points, std::string_view classes);
  // The area between the points and the height `base`.
  void area(std::span<const Point> points, double base, std::string_view classes);
  // tooltip: shown by browsers on hovering; empty: none.
  void rectangle(Point corner, double width, double height, std::string_view classes,
                 std::string_view tooltip = "");
  void circle(Point center, double radius, std::string_view classes, std::string_view tooltip = "");
  // classes: with "start", "middle" or "end" for the anchor.
  void text(Point at, std::string_view text, std::string_view classes);

  // Without colours of its own, for a page that has chart_style().
  std::string finish() const;
  // A whole document, for a file.
  std::string standalone() const;

 private:
  double width_, height_;
  std::string title_, body_;
};

// A whole document of a picture that came without colours of its own, such as a chart.
std::string standalone(std::string_view picture);

// "s2": the stroke of series 2; "f2": its fill.
std::string stroke_class(int series);
std::string fill_class(int series);

// About how wide a text is at a size in pixels, for placing it: fonts differ by a tenth.
double text_width(std::string_view text, double size_px);

}  // namespace spillway
